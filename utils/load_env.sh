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

make_env() { # FOLDER
    local python code=0 quiet=--quiet
    if cmp --silent "$1/requirements.txt" "$1/.venv/made-from.txt"; then return; fi
    if [[ -n ${in_job:-} ]]; then
        echo "load_env.sh: there is no .venv made from requirements.txt;" \
            "type where there is internet: bash -c 'source utils/load_env.sh'" >&2
        return 1
    fi
    for python in python3.11 python3 python3.12 python3.13 ""; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then break; fi
    done
    if [[ -z $python ]]; then
        echo "load_env.sh: there is no Python 3.11 or later here: load one in utils/load_env.sh" >&2
        return 1
    fi
    if [[ -t 2 ]]; then quiet=--progress-bar=on; fi
    (
        flock 9
        if cmp --silent "$1/requirements.txt" "$1/.venv/made-from.txt"; then exit; fi # others have made it meanwhile
        echo "making .venv, this once: some minutes, and 5.5 GB with torch for a GPU, 1.8 GB with torch for CPUs alone" \
            "(README.md, Slurm cluster, says how)" >&2
        set -m # in a process group of its own, which a signal ends as a whole
        { rm -rf "$1/.venv" && "$python" -m venv "$1/.venv" &&
            "$1/.venv/bin/python" -m pip install "$quiet" --disable-pip-version-check -r "$1/requirements.txt" &&
            cp "$1/requirements.txt" "$1/.venv/made-from.txt"; } >&2 & # copied last: the environment is whole
        set +m
        trap 'kill -KILL -- "-$!"' INT TERM HUP USR2
        wait "$!" || code=$?
        if ((code > 128)); then echo "load_env.sh: interrupted; the same command makes .venv anew" >&2; fi
        exit "$code"
    ) 9> "$1/.venv.lock"
}

make_env "$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")" || exit
set +u # activate scripts read variables that may not be set
# shellcheck disable=SC1091
source "$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/activate"
set -u
