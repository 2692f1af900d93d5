#!/bin/bash
#SBATCH --job-name=finetune
#SBATCH --nodes=1
#SBATCH --ntasks=1               # every task would train the whole run
#SBATCH --gres=gpu:1             # gpu:2 trains a run on two GPUs, but two runs make better use of them
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --requeue                # after a preemption or a lost node, restart from the last checkpoint
#SBATCH --open-mode=append       # keep the log of earlier turns
#SBATCH --signal=B:USR2@300      # five minutes before the time limit, save and requeue (utils/cluster/job.sh)
##SBATCH --mail-type=FAIL        # for an e-mail when it fails, remove one # from this line and the next
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
# a job runs Slurm's copy of this file; the project is where it was submitted, or where Slurm says the file is
[[ -f $root/utils/cluster/job.sh ]] || root=$PWD
[[ -f $root/utils/cluster/job.sh ]] ||
    root=$(scontrol show job "${SLURM_JOB_ID:-}" | sed -n 's|^ *Command=\(.*/\)run_train\.sh.*|\1|p')
source "$root/utils/cluster/job.sh" # changes to it, activates .venv; run_python requeues a job near its time limit

command=(python)
if [[ -n $in_job ]] && ((${SLURM_GPUS_ON_NODE:-1} > 1)); then
    # by default, torchrun does not pass on SIGUSR2, and kills after 30 seconds
    command=(torchrun --standalone --nproc-per-node="$SLURM_GPUS_ON_NODE" "--signals-to-handle=SIGTERM,SIGINT,SIGUSR2"
        --shutdown-timeout=280)
fi
run_python "${command[@]}" finetune.py --model-name="$1" --train-langs="$2" "${@:3}"
