#!/bin/bash
# Run all tests: linters, then pytest. Makes the environment if there is none.
#
#   bash tests/run.sh [pytest options]        bash tests/run.sh -k corpus
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

source utils/load_env.sh
python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
ruff check .
ruff format --check .
shellcheck --external-sources ./*.sh utils/*.sh tests/*.sh .ci/run
python -m pytest "$@"
