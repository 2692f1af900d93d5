#!/bin/bash
#SBATCH --job-name=evaluate
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --requeue                # after a preemption or a lost node, restart with the remaining languages
#SBATCH --open-mode=append       # keep the log of earlier turns
#SBATCH --signal=B:USR2@300      # five minutes before the time limit, stop and requeue (utils/cluster/job.sh)
##SBATCH --mail-type=FAIL        # for an e-mail when it fails, remove one # from this line and the next
##SBATCH --mail-user=you@example.org
#
# Evaluate one fine-tuned model on all eval_langs, in one process. Submitted by submit_eval_jobs.sh, or by hand:
#
#   bash run_eval.sh MODEL LANGS [evaluate.py options]         bash run_eval.sh xlmr en-fr
#   sbatch run_eval.sh MODEL LANGS [evaluate.py options]       sbatch run_eval.sh xlmr en-fr --eval-lang fi sv
#
# The options of evaluate.py: python evaluate.py --help. Exit: as evaluate.py.

# The languages on which every model is evaluated, by the names of the test files; all: every test file there is.
# The submit scripts source this file for them, and stop at the next line.
eval_langs=("all")
if [[ ${BASH_SOURCE[0]} != "$0" ]]; then return; fi

set -euo pipefail
root=$(dirname "${BASH_SOURCE[0]}")
# a job runs Slurm's copy of this file; the project is where it was submitted, or where Slurm says the file is
[[ -f $root/utils/cluster/job.sh ]] || root=$PWD
[[ -f $root/utils/cluster/job.sh ]] ||
    root=$(scontrol show job "${SLURM_JOB_ID:-}" | sed -n 's|^ *Command=\(.*/\)run_eval\.sh.*|\1|p')
source "$root/utils/cluster/job.sh" # changes to it, activates .venv; run_python requeues a job near its time limit

run_python python evaluate.py --model-name="$1" --train-langs="$2" --eval-lang "${eval_langs[@]}" "${@:3}"
