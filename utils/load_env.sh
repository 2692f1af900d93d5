#!/bin/bash
# Make this project's Python environment if there is none, and activate it. Sourced by every wrapper:
#
#   source utils/load_env.sh
#
# Makes .venv/ with the packages of requirements.txt, once, and anew when requirements.txt has changed.
# Several at once wait for the first; an interrupted making is started over. A Slurm job makes none: its node may
# have no internet. Needs Python 3.11 or later: a site whose Python is older, or lies in a module, loads it here,
# for example
#   module load python/3.11

unset PYTHONPATH PYTHONHOME # a module's: its packages would go before those of requirements.txt

make_env() {
    local root=$1 python candidate
    if cmp --silent "$root/requirements.txt" "$root/.venv/made-from.txt"; then return; fi
    if [[ -n ${in_job:-} ]]; then
        echo "load_env.sh: expected .venv, made from requirements.txt, found none;" \
            "type where there is internet: bash -c 'source utils/load_env.sh'" >&2
        return 1
    fi
    for candidate in python3.11 python3 python3.12 python3.13; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
            python=$candidate
            break
        fi
    done
    if [[ -z ${python:-} ]]; then
        echo "load_env.sh: expected Python 3.11 or later, found none: load it in utils/load_env.sh" >&2
        return 1
    fi
    (
        flock 9
        if cmp --silent "$root/requirements.txt" "$root/.venv/made-from.txt"; then exit; fi
        echo "making .venv with requirements.txt: some minutes, this once" >&2
        set -m # a process group of its own for what follows, so that of a signal this alone speaks
        build_env "$root" "$python" &
        set +m
        trap 'end_build "$!" INT 130' INT
        trap 'end_build "$!" TERM 143' TERM
        trap 'end_build "$!" USR2 140' USR2
        wait "$!"
    ) 9> "$root/.venv.lock"
}

build_env() { # ROOT PYTHON
    rm -rf "$1/.venv"
    "$2" -m venv "$1/.venv" &&
        "$1/.venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$1/requirements.txt" &&
        cp "$1/requirements.txt" "$1/.venv/made-from.txt" # last: says that the environment is whole
}

end_build() { # PID SIGNAL EXIT-CODE
    echo "load_env.sh: ended by SIG$2; the same command makes .venv anew" >&2
    kill -KILL -- "-$1" 2> /dev/null || true
    exit "$3"
}

make_env "$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)" || exit
set +u # activate scripts read variables that may not be set
# shellcheck disable=SC1091
source "$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/activate"
set -u
