#!/bin/bash
# Run all tests: linters, then pytest. Makes the environment if there is none.
#
#   bash tests/run.sh [--with-slurm] [--with-browser] [pytest options]        bash tests/run.sh -k corpus
#
# The tests in tests/cluster/ need root and Slurm's programs, those of report.html in a browser need Chromium; else they
# are skipped, and the last lines say so. With --with-slurm and --with-browser, Slurm and Chromium are installed from
# Debian's packages first.
set -euo pipefail
cd "$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")"

packages=()
while [[ ${1:-} == --with-slurm || ${1:-} == --with-browser ]]; do
    if [[ $1 == --with-slurm ]]; then packages+=(slurm-wlm munge libfaketime); else packages+=(chromium chromium-driver); fi
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
python -m pytest --numprocesses 2 --dist loadfile "$@"
why_not=$(PYTHONPATH=tests/cluster python -c 'import cluster; print(cluster.why_not())')
if [[ -n $why_not ]]; then echo "the tests in tests/cluster/ were skipped: $why_not"; fi
for program in chromium chromedriver; do
    if ! command -v "$program" > /dev/null; then
        echo "the tests in tests/test_report_in_browser.py were skipped: no $program (--with-browser)"
    fi
done
