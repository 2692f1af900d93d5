#!/bin/bash
# Evaluate each fine-tuned model on all eval_langs of run_eval.sh: one Slurm job per model, or one after the other here.
#
#   ./submit_eval_jobs.sh [options] [-- evaluate.py options]
#   ./submit_eval_jobs.sh --models xlmr --langs en fr en-fr --local -- --eval-lang fi sv
#
#   --models M…      short names of utils/model2chckpt.json
#   --langs L…       training mixes of the models: languages joined by -, or distr
#   --subfolder DIR  the models and their results lie in models/DIR/ and outputs/DIR/
#   --max-jobs N     at most N jobs of this grid at once
#   --local          one after the other on this machine, without Slurm
#   --dry-run        print the commands, submit and run nothing
#   --status         how far each run of the grid is, and why what is missing is missing
#
# What is evaluated, queued or running already is left out. A model whose training is queued is evaluated when that
# has ended well. If anything is wrong with a name or the corpus, all of it is told, and nothing is submitted.
# Exit: 0 submitted (--local: done); 1 something can't be used or was not done; 2 wrong use.
set -euo pipefail

models=("mbert" "xlmr" "glot500")
langs=("en" "fi" "fr" "sv" "en-fi" "en-fr" "en-sv" "fi-fr" "fi-sv" "fr-sv" "id" "ru" "tr" "de")
subfolder=""

source "$(dirname "${BASH_SOURCE[0]}")/utils/cluster/submit.sh"
exec python utils/cluster/submit.py eval --models "${models[@]}" --langs "${langs[@]}" --subfolder="$subfolder" "$@"
