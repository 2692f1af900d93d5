#!/bin/bash
#SBATCH --job-name=finetune
#SBATCH --nodes=1
#SBATCH --ntasks=1           # one task: each would train the whole run
#SBATCH --gres=gpu:1         # one run needs one GPU; more runs scale better than more GPUs a run
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#
# Fine-tune one model on one training mix. Submitted by submit_train_jobs.sh, or by hand:
#
#   bash run_train.sh MODEL LANGS [finetune.py options]        bash run_train.sh xlmr en-fr
#   sbatch run_train.sh MODEL LANGS [finetune.py options]      sbatch run_train.sh xlmr en-fr --seed 1
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")}" # Slurm runs a copy of this file from elsewhere

model=${1:?expected MODEL LANGS, as in: bash run_train.sh xlmr en-fr}
langs=${2:?expected MODEL LANGS, as in: bash run_train.sh xlmr en-fr}
shift 2

source utils/load_env.sh
exec python finetune.py --model-name="$model" --train-langs="$langs" "$@"
