#!/bin/bash
# What submit_train_jobs.sh and submit_eval_jobs.sh share: their options, and a job for each model and training mix.
# The script that sources this sets models, langs and subfolder first.
# shellcheck disable=SC2034,SC2154

local_run="" dry_run="" demo="" rest=()

# Read the options into models, langs, subfolder, local_run, dry_run, demo; what follows -- into rest.
parse_options() {
    while (($#)); do
        case $1 in
            --models | --langs)
                local -n list=${1#--}
                list=()
                shift
                while (($#)) && [[ $1 != -* ]]; do
                    list+=("$1")
                    shift
                done
                continue
                ;;
            --subfolder)
                if (($# < 2)); then usage_error "--subfolder needs a folder's name"; fi
                subfolder=$2
                shift
                ;;
            --local) local_run=yes ;;
            --dry-run) dry_run=yes ;;
            --demo) demo=yes ;;
            --help | -h)
                sed -n '2,/^[^#]/ { /^#/ s/^# \{0,1\}//p }' "$0"
                exit 0
                ;;
            --)
                shift
                rest=("$@")
                break
                ;;
            *) usage_error "unknown option $1; options for the Python script go after --" ;;
        esac
        shift
    done
    if ((${#models[@]} == 0 || ${#langs[@]} == 0)); then usage_error "expected at least one of --models and of --langs"; fi
    if [[ -n $subfolder ]]; then rest=("--subfolder=$subfolder" "${rest[@]}"); fi
}

usage_error() {
    echo "$(basename "$0"): $1" >&2
    exit 2
}

# Run or submit SCRIPT for each model and training mix; with --local all are tried, and failures told at the end.
run_grid() {
    local script=$1 kind=$2 model lang run_dir command
    local failed=()
    if [[ -z $local_run && -z $dry_run ]] && ! command -v sbatch > /dev/null; then
        usage_error "no Slurm here (sbatch is not on the PATH): use --local to run on this machine, or --dry-run"
    fi
    for model in "${models[@]}"; do
        for lang in "${langs[@]}"; do
            run_dir=outputs/${subfolder:+$subfolder/}$model-$lang
            command=(bash "$script" "$model" "$lang" "${rest[@]}")
            if [[ -z $local_run ]]; then
                command=(sbatch --job-name="$kind-$model-$lang" --output="$run_dir/$kind.txt" --open-mode=append "${command[@]:1}")
            fi
            if [[ -n $dry_run ]]; then
                printf '%q ' "${command[@]}"
                echo
            elif [[ -n $local_run ]]; then
                echo "== $kind $model $lang"
                if ! "${command[@]}"; then failed+=("$model-$lang"); fi
            else
                mkdir -p "$run_dir" # Slurm does not make the folder of --output
                "${command[@]}"
            fi
        done
    done
    if ((${#failed[@]})); then
        echo "$(basename "$0"): failed: ${failed[*]}" >&2
        return 1
    fi
}
