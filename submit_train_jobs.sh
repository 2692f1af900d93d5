#!/bin/bash
# Fine-tune each model on each training mix: one Slurm job each, or one after the other on this machine.
#
#   ./submit_train_jobs.sh [options] [-- finetune.py options]
#   ./submit_train_jobs.sh --models xlmr --langs en fr en-fr --subfolder seed1 --then-evaluate -- --seed 1
#   ./submit_train_jobs.sh --demo      the whole chain on the sample corpus, on this machine, in minutes
#
#   --models M…      short names of utils/model2chckpt.json
#   --langs L…       training mixes: languages of the corpus joined by -, or distr
#   --subfolder DIR  keep the runs in outputs/DIR/ and models/DIR/
#   --then-evaluate  evaluate each model too, as soon as it is trained, on the eval_langs of run_eval.sh
#   --max-jobs N     at most N jobs of this grid at once
#   --local          one after the other on this machine, without Slurm
#   --dry-run        print the commands, submit and run nothing
#   --status         how far each run of the grid is, and why what is missing is missing
#
# What is trained, queued or running already is left out, so that the same command submits what is missing. If
# anything is wrong with a name, the corpus or a checkpoint, all of it is told, and nothing is submitted.
# Exit: 0 submitted (--local: done); 1 something can't be used or was not done; 2 wrong use.
set -euo pipefail

models=("mbert" "xlmr" "glot500")
langs=("en" "fi" "fr" "sv" "en-fi" "en-fr" "en-sv" "fi-fr" "fi-sv" "fr-sv" "id" "ru" "tr" "de")
subfolder=""

source "$(dirname "${BASH_SOURCE[0]}")/utils/cluster/submit.sh"

if [[ $* == --demo ]]; then
    export REGISTER_CORPUS=$PWD/tests/sample-corpus
    demo=(--local --models "tiny" --langs "en" "fr" "en-fr" --subfolder "demo")
    # fp32: the same table on every CPU
    python utils/cluster/submit.py train "${demo[@]}" -- --learning-rate=2e-3 --batch-size=8 --num-epochs=15 \
        --max-length=256 --all-texts --precision="fp32"
    python utils/cluster/submit.py eval "${demo[@]}" -- --eval-lang "en" "fr" "ru" "sv" --precision="fp32"
    exec python post_eval.py --base-dir="outputs/demo" --tve-metrics macro_f1
fi
exec python utils/cluster/submit.py train --models "${models[@]}" --langs "${langs[@]}" --subfolder="$subfolder" "$@"
