#!/bin/bash
# Evaluate each fine-tuned model on all languages of run_eval.sh: one Slurm job per model, or one after the other here.
#
#   ./submit_eval_jobs.sh [--models M…] [--langs L…] [--subfolder DIR] [--local] [--dry-run] [-- evaluate.py options]
#   ./submit_eval_jobs.sh --models xlmr --langs en fr en-fr --local -- --eval-lang fi sv
#
#   --models     short names of utils/model2chckpt.json
#   --langs      training mixes of the models: languages joined by -, or distr
#   --subfolder  the models and their results lie in models/DIR/ and outputs/DIR/
#   --local      one after the other on this machine, without Slurm
#   --dry-run    print the commands, do nothing
set -euo pipefail

models=("mbert" "xlmr" "glot500")
langs=("en" "fi" "fr" "sv" "en-fi" "en-fr" "en-sv" "fi-fr" "fi-sv" "fr-sv" "id" "ru" "tr" "de")
subfolder=""

cd "$(dirname "${BASH_SOURCE[0]}")"
source utils/submit.sh
parse_options "$@"
if [[ -z $dry_run ]]; then source utils/load_env.sh; fi
run_grid run_eval.sh eval
