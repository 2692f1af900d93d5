#!/bin/bash
#SBATCH --job-name=evaluate
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#
# Evaluate one fine-tuned model on all eval_langs, in one process. Submitted by submit_eval_jobs.sh, or by hand:
#
#   bash run_eval.sh MODEL LANGS [evaluate.py options]         bash run_eval.sh xlmr en-fr
#   sbatch run_eval.sh MODEL LANGS [evaluate.py options]       sbatch run_eval.sh xlmr en-fr --eval-lang fi sv

# the languages on which every model is evaluated; change them here, or with the option --eval-lang
eval_langs=("al" "ar" "ca" "de" "en" "es" "fa" "fi" "fr" "hi" "id" "jp" "no" "pt" "ru" "sv" "tr" "ur" "zh")

set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")}" # Slurm runs a copy of this file from elsewhere

model=${1:?expected MODEL LANGS, as in: bash run_eval.sh xlmr en-fr}
langs=${2:?expected MODEL LANGS, as in: bash run_eval.sh xlmr en-fr}
shift 2

source utils/load_env.sh
exec python evaluate.py --model-name="$model" --train-langs="$langs" --eval-lang "${eval_langs[@]}" "$@"
