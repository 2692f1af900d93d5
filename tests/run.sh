#!/bin/bash
# Run the tests: linters, then pytest. Makes the environment if there is none.
#
#   bash tests/run.sh [--all] [--with-slurm] [--with-browser] [pytest options]        bash tests/run.sh -k corpus
#
# Some five minutes. With --all, some twenty: a real Slurm, report.html in a browser, two processes, every encoder, full
# disks and ends at random moments as well. Slurm needs root, and both it and Chromium are skipped where they are not
# installed, which the last lines say: with --with-slurm and --with-browser, Debian's packages are installed first.
set -euo pipefail
cd "$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")"

packages=()
choice=()
while [[ ${1:-} == --all || ${1:-} == --with-* ]]; do
    case $1 in
        --all) choice=(-m "") ;; # pyproject.toml leaves out what is marked as slow
        --with-slurm) packages+=(slurm-wlm munge libfaketime) ;;
        --with-browser) packages+=(chromium chromium-driver) ;;
        *) echo "run.sh: no option $1" >&2; exit 2 ;;
    esac
    shift
done
if [[ ${#packages[@]} -gt 0 ]]; then
    export DEBIAN_FRONTEND=noninteractive
    if ! dpkg --status "${packages[@]}" > /dev/null 2>&1; then
        apt-get update --quiet=2
        apt-get install --yes --quiet=2 --no-install-recommends "${packages[@]}" > /dev/null
    fi
fi

source utils/load_env.sh
python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
ruff check .
ruff format --check .
mypy --no-error-summary
# left out: braces around every variable; a warning for every "if [[ $(command) … ]]"
shellcheck --external-sources --enable=all --exclude=SC2250,SC2312 ./*.sh utils/*.sh utils/*/*.sh tests/*.sh .ci/run
# two at once: those on a real Slurm mostly wait; a file's tests stay together
python -m pytest --numprocesses 2 --dist loadfile "${choice[@]}" "$@"
if [[ ${#choice[@]} -gt 0 ]]; then
    why_not=$(PYTHONPATH=tests/cluster python -c 'import cluster; print(cluster.why_not())')
    if [[ -n $why_not ]]; then echo "the tests in tests/cluster/test_slurm.py were skipped: $why_not"; fi
    for program in chromium chromedriver; do
        if ! command -v "$program" > /dev/null; then
            echo "the tests in tests/test_report_in_browser.py were skipped: no $program (--with-browser)"
        fi
    done
fi
