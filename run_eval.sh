#!/bin/bash
#SBATCH --job-name=evaluate
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --requeue                # preempted, or its node lost: start again, with the languages that are left
#SBATCH --open-mode=append       # and keep the log of the starts before
#SBATCH --signal=B:USR2@300      # five minutes before the time limit: stop, and go on in a new turn (utils/cluster/job.sh)
#
# Evaluate one fine-tuned model on all eval_langs, in one process. Submitted by submit_eval_jobs.sh, or by hand:
#
#   bash run_eval.sh MODEL LANGS [evaluate.py options]         bash run_eval.sh xlmr en-fr
#   sbatch run_eval.sh MODEL LANGS [evaluate.py options]       sbatch run_eval.sh xlmr en-fr --eval-lang fi sv
#
# Account, partition and time limit come from SBATCH_ACCOUNT, SBATCH_PARTITION, SBATCH_TIMELIMIT.
# The options of evaluate.py: python evaluate.py --help. Exit: as evaluate.py.

# the languages on which every model is evaluated; change them here, or with the option --eval-lang
eval_langs=("al" "ar" "ca" "de" "en" "es" "fa" "fi" "fr" "hi" "id" "jp" "no" "pt" "ru" "sv" "tr" "ur" "zh")

set -euo pipefail
root=$(dirname "${BASH_SOURCE[0]}")
if [[ ! -f $root/utils/cluster/job.sh ]]; then # a job runs Slurm's copy of this file, where it was submitted
    root=$PWD
fi
if [[ ! -f $root/utils/cluster/job.sh ]]; then # or from another folder: Slurm knows the path that was typed
    root=$(scontrol show job "${SLURM_JOB_ID:-}" | sed -n 's|^ *Command=\(.*/\)run_eval\.sh.*|\1|p')
fi
source "$root/utils/cluster/job.sh"

read_arguments run_eval.sh "$@"
shift 2

source utils/load_env.sh
run_python python evaluate.py --model-name="$model" --train-langs="$langs" --eval-lang "${eval_langs[@]}" "$@"
