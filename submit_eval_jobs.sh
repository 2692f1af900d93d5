#!/bin/bash
# Evaluate each fine-tuned model on the eval_langs of run_eval.sh, in a Slurm job each or one after the other here.
#
#   ./submit_eval_jobs.sh [options] [-- evaluate.py options]
#   ./submit_eval_jobs.sh --models xlmr --langs en fr en-fr --local --eval-lang fi sv
#
# The options --models, --langs, --subfolder, --eval-lang, --local, --dry-run and --status are those of
# submit_train_jobs.sh. Models that are evaluated, queued or running are left out; a model whose training is queued is
# evaluated if that succeeds. Exit: 0 submitted (--local: done); 1 something can't be used or was not done; 2 wrong use.
set -euo pipefail

models=("mbert" "xlmr" "glot500")
langs=("en" "fi" "fr" "sv" "en-fi" "en-fr" "en-sv" "fi-fr" "fi-sv" "fr-sv" "id" "ru" "tr" "de")
subfolder=""

source "$(dirname "${BASH_SOURCE[0]}")/utils/cluster/jobs.sh"
check_grid eval "$@" # reads the options; exits if anything is wrong

for model in "${models[@]}"; do
    for lang in "${langs[@]}"; do
        run=${subfolder:+$subfolder/}$model-$lang
        if [[ -n ${to_do["eval-$run"]:-} ]]; then
            training=${job["train-$run"]:-} # the number of its job, if it is not trained yet
            start sbatch --parsable --job-name="eval-$run" --output="outputs/$run/eval.txt" \
                --dependency="singleton${training:+,afterok:$training}" --kill-on-invalid-dep=yes \
                run_eval.sh "$model" "$lang" ${subfolder:+"--subfolder=$subfolder"} "${eval_options[@]}" "${options[@]}"
        fi
    done
done
if ((${#not_done[@]})); then stop "not done: ${not_done[*]}"; fi
