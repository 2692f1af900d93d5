#!/bin/bash
# Activate the Python environment of this project, .venv. Every bash script sources this file:
#
#   source utils/load_env.sh
#
# Makes .venv with the packages of requirements.txt if it does not exist, or if requirements.txt has changed; not in a
# Slurm job, whose node may have no internet. If several processes need it, they wait for the first; if making it is
# interrupted, it is started again. Needs Python 3.11 or later; if your site has it in a module, load it here:
#   module load python/3.11

unset PYTHONPATH PYTHONHOME # set by modules, whose packages would take precedence over requirements.txt

make_env() { # FOLDER
    local python code=0 quiet=--quiet
    if cmp --silent "$1/requirements.txt" "$1/.venv/made-from.txt"; then return; fi
    if [[ -n ${in_job:-} ]]; then
        echo "load_env.sh: there is no .venv made from requirements.txt;" \
            "on a machine with internet, type: bash -c 'source utils/load_env.sh'" >&2
        return 1
    fi
    for python in python3.11 python3 python3.12 python3.13 ""; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then break; fi
    done
    if [[ -z $python ]]; then
        echo "load_env.sh: there is no Python 3.11 or later here; load one in utils/load_env.sh" >&2
        return 1
    fi
    if [[ -t 2 ]]; then quiet=--progress-bar=on; fi
    (
        flock 9
        if cmp --silent "$1/requirements.txt" "$1/.venv/made-from.txt"; then exit; fi # another process has made it meanwhile
        echo "making .venv, once: it takes some minutes, and 5.5 GB with torch for a GPU or 1.8 GB with torch for CPUs" \
            "(README.md, Slurm cluster, says how to choose)" >&2
        set -m # in a process group of its own, which a signal ends as a whole
        { rm -rf "$1/.venv" && "$python" -m venv "$1/.venv" &&
            "$1/.venv/bin/python" -m pip install "$quiet" --disable-pip-version-check -r "$1/requirements.txt" &&
            cp "$1/requirements.txt" "$1/.venv/made-from.txt"; } >&2 & # copied last: the environment is complete
        set +m
        trap 'kill -KILL -- "-$!"' INT TERM HUP USR2
        wait "$!" || code=$?
        if ((code > 128)); then echo "load_env.sh: interrupted; the same command makes .venv again" >&2; fi
        exit "$code"
    ) 9> "$1/.venv.lock"
}

make_env "$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")" || exit
set +u # activate reads variables that may not be set
# shellcheck disable=SC1091
source "$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/activate"
set -u
