#!/bin/bash
# Fine-tune each model on each training mix: one Slurm job each, or one after the other on this machine.
#
#   ./submit_train_jobs.sh [--models M…] [--langs L…] [--subfolder DIR] [--local] [--dry-run] [-- finetune.py options]
#   ./submit_train_jobs.sh --models xlmr --langs en fr en-fr --subfolder seed1 -- --seed 1
#   ./submit_train_jobs.sh --demo      the whole chain on the sample corpus, on this machine, in minutes
#
#   --models     short names of utils/model2chckpt.json
#   --langs      training mixes: languages of the corpus joined by -, or distr
#   --subfolder  keep the runs in outputs/DIR/ and models/DIR/
#   --local      one after the other on this machine, without Slurm
#   --dry-run    print the commands, do nothing
set -euo pipefail

models=("mbert" "xlmr" "glot500")
langs=("en" "fi" "fr" "sv" "en-fi" "en-fr" "en-sv" "fi-fr" "fi-sv" "fr-sv" "id" "ru" "tr" "de")
subfolder=""

cd "$(dirname "${BASH_SOURCE[0]}")"
source utils/submit.sh
parse_options "$@"

if [[ -n $demo ]]; then
    models=("tiny") langs=("en" "fr" "en-fr") subfolder="demo" local_run=yes
    rest=("--subfolder=$subfolder" "--learning-rate=2e-3" "--batch-size=8" "--num-epochs=15" "--max-length=256" "--all-texts")
    export REGISTER_CORPUS=$PWD/tests/sample-corpus
fi

if [[ -z $dry_run ]]; then source utils/load_env.sh; fi
run_grid run_train.sh train

if [[ -n $demo ]]; then
    ./submit_eval_jobs.sh --local --models "${models[@]}" --langs "${langs[@]}" --subfolder "$subfolder" \
        -- --eval-lang "en" "fr" "ru" "sv"
    python post_eval.py --base-dir "outputs/$subfolder" --tve-metrics macro_f1
fi
