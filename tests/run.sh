#!/bin/bash
# Run all tests: linters, then pytest. Makes the environment if there is none.
#
#   bash tests/run.sh [--with-slurm] [pytest options]        bash tests/run.sh -k corpus
#
# The tests in tests/cluster/ need root and Slurm's programs; else they are skipped, and the last line says so. With
# --with-slurm, Slurm is installed from Debian's packages first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ ${1:-} == --with-slurm ]]; then
    shift
    packages=(slurm-wlm munge libfaketime)
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
python -m pytest "$@"
why_not=$(PYTHONPATH=tests/cluster python -c 'import cluster; print(cluster.why_not())')
if [[ -n $why_not ]]; then echo "the tests in tests/cluster/ were skipped: $why_not"; fi
