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
##SBATCH --mail-type=FAIL        # an e-mail when it fails: take away one # from this line and the next
##SBATCH --mail-user=you@example.org
#
# Evaluate one fine-tuned model on all eval_langs, in one process. Submitted by submit_eval_jobs.sh, or by hand:
#
#   bash run_eval.sh MODEL LANGS [evaluate.py options]         bash run_eval.sh xlmr en-fr
#   sbatch run_eval.sh MODEL LANGS [evaluate.py options]       sbatch run_eval.sh xlmr en-fr --eval-lang fi sv
#
# The options of evaluate.py: python evaluate.py --help. Exit: as evaluate.py.

# The languages on which every model is evaluated, by the names of the corpus's test files; all: every one there is.
# The submit scripts read them here too; what comes after the next line is for a run alone.
eval_langs=("all")
if [[ ${BASH_SOURCE[0]} != "$0" ]]; then return; fi

set -euo pipefail
root=$(dirname "${BASH_SOURCE[0]}")
# a job runs Slurm's copy of this file: the others lie where it was submitted, or Slurm knows the path that was typed
[[ -f $root/utils/cluster/job.sh ]] || root=$PWD
[[ -f $root/utils/cluster/job.sh ]] ||
    root=$(scontrol show job "${SLURM_JOB_ID:-}" | sed -n 's|^ *Command=\(.*/\)run_eval\.sh.*|\1|p')
source "$root/utils/cluster/job.sh" # goes there, activates .venv; its run_python requeues a job near its time limit

run_python python evaluate.py --model-name="$1" --train-langs="$2" --eval-lang "${eval_langs[@]}" "${@:3}"
