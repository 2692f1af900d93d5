#!/bin/bash
# Fine-tune each model on each list of training languages, in a Slurm job each or one after the other on this machine.
#
#   ./submit_train_jobs.sh [options] [-- finetune.py options]
#   ./submit_train_jobs.sh --models xlmr --langs en fr en-fr --subfolder seed1 --then-evaluate -- --seed 1
#   ./submit_train_jobs.sh --demo      train, evaluate and draw on the sample corpus, on this machine, in minutes
#
#   --models M…      short names of utils/model2chckpt.json, or ngrams
#   --langs L…       lists of training languages, each joined by "-"
#   --subfolder DIR  keep the runs in outputs/DIR/ and models/DIR/
#   --then-evaluate  evaluate each model too, as soon as it is trained, on the eval_langs of run_eval.sh
#   --eval-lang L…   the same, on these languages; all: every test file of the corpus
#   --local          on this machine, without Slurm
#   --dry-run        print the commands, submit and run nothing
#   --status         show how far each run is, and why a missing one is missing
#
# Runs that are trained, queued or running are left out, so that the same command submits what is missing. If anything
# is wrong with the names, the corpus or a checkpoint, it lists everything that is wrong and submits nothing.
# Exit: 0 submitted (--local: done); 1 something can't be used or was not done; 2 wrong use.
set -euo pipefail

models=("mbert" "xlmr" "glot500")
langs=("en" "fi" "fr" "sv" "en-fi" "en-fr" "en-sv" "fi-fr" "fi-sv" "fr-sv" "id" "ru" "tr" "de")
subfolder=""

source "$(dirname "${BASH_SOURCE[0]}")/utils/cluster/jobs.sh"
if [[ $* == --demo ]]; then
    export REGISTER_CORPUS=$PWD/tests/sample-corpus
    demo=(--local --models "tiny" --langs "en" "fr" "en-fr" --subfolder "demo")
    # with fp32, the table is the same on every CPU
    ./submit_train_jobs.sh "${demo[@]}" -- --learning-rate=2e-3 --batch-size=8 --num-epochs=15 --max-length=256 \
        --all-texts --precision="fp32"
    ./submit_eval_jobs.sh "${demo[@]}" --eval-lang "en" "fr" "ru" "sv" -- --precision="fp32"
    source utils/load_env.sh
    exec python post_eval.py --base-dir="outputs/demo" --tve-metrics macro_f1
fi
check_grid train "$@" # reads the options; exits if anything is wrong

for model in "${models[@]}"; do
    for lang in "${langs[@]}"; do
        run=${subfolder:+$subfolder/}$model-$lang
        if [[ -n ${to_do["train-$run"]:-} ]]; then
            start sbatch --parsable --job-name="train-$run" --output="outputs/$run/train.txt" \
                --dependency=singleton --kill-on-invalid-dep=yes \
                run_train.sh "$model" "$lang" ${subfolder:+"--subfolder=$subfolder"} "${options[@]}"
        fi
        if [[ -n ${to_do["eval-$run"]:-} ]]; then # with --then-evaluate
            training=${job["train-$run"]:-}       # the number of its job, if it is not trained yet
            start sbatch --parsable --job-name="eval-$run" --output="outputs/$run/eval.txt" \
                --dependency="singleton${training:+,afterok:$training}" --kill-on-invalid-dep=yes \
                run_eval.sh "$model" "$lang" ${subfolder:+"--subfolder=$subfolder"} "${eval_options[@]}"
        fi
    done
done
if ((${#not_done[@]})); then stop "not done: ${not_done[*]}"; fi
