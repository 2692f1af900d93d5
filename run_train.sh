#!/bin/bash
#SBATCH --job-name=finetune
#SBATCH --nodes=1
#SBATCH --ntasks=1               # one task: each would train the whole run
#SBATCH --gres=gpu:1             # one run needs one GPU; gpu:2 trains it on two, but two runs make better use of them
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --requeue                # preempted, or its node lost: start again, from the last checkpoint
#SBATCH --open-mode=append       # and keep the log of the starts before
#SBATCH --signal=B:USR2@300      # five minutes before the time limit: save, and go on in a new turn (utils/cluster/job.sh)
##SBATCH --mail-type=FAIL        # an e-mail when it fails: take away one # from this line and the next
##SBATCH --mail-user=you@example.org
#
# Fine-tune one model on one list of training languages. Submitted by submit_train_jobs.sh, or by hand:
#
#   bash run_train.sh MODEL LANGS [finetune.py options]        bash run_train.sh xlmr en-fr
#   sbatch run_train.sh MODEL LANGS [finetune.py options]      sbatch run_train.sh xlmr en-fr --seed 1
#
# The options of finetune.py: python finetune.py --help. Exit: as finetune.py.
set -euo pipefail
root=$(dirname "${BASH_SOURCE[0]}")
# a job runs Slurm's copy of this file: the others lie where it was submitted, or Slurm knows the path that was typed
[[ -f $root/utils/cluster/job.sh ]] || root=$PWD
[[ -f $root/utils/cluster/job.sh ]] ||
    root=$(scontrol show job "${SLURM_JOB_ID:-}" | sed -n 's|^ *Command=\(.*/\)run_train\.sh.*|\1|p')
source "$root/utils/cluster/job.sh" # goes there, activates .venv; its run_python requeues a job near its time limit

command=(python)
if [[ -n $in_job ]] && ((${SLURM_GPUS_ON_NODE:-1} > 1)); then
    # of itself, torchrun passes on no SIGUSR2, and kills after 30 seconds
    command=(torchrun --standalone --nproc-per-node="$SLURM_GPUS_ON_NODE" "--signals-to-handle=SIGTERM,SIGINT,SIGUSR2"
        --shutdown-timeout=280)
fi
run_python "${command[@]}" finetune.py --model-name="$1" --train-langs="$2" "${@:3}"
