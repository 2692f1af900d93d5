#!/bin/bash
# What submit_train_jobs.sh and submit_eval_jobs.sh share: their options, and the loop over the grid.
# The script that sources this sets models, langs and subfolder first.
# shellcheck disable=SC2034,SC2154

# a relative corpus counts from where the user is
if [[ -n ${REGISTER_CORPUS:-} ]]; then REGISTER_CORPUS=$(realpath -m -- "${REGISTER_CORPUS/#\~\//$HOME/}"); fi
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

script=$(basename "$0") dry_run="" local_run="" show_status="" max_jobs=0 then_evaluate="" demo="" rest=()

# Read the options into these variables and into models, langs, subfolder; what follows -- into rest.
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
            --max-jobs)
                if [[ ! ${2:-} =~ ^[1-9][0-9]{0,4}$ ]]; then usage_error "--max-jobs needs a number above 0"; fi
                max_jobs=$2
                shift
                ;;
            --local) local_run=yes ;;
            --dry-run) dry_run=yes ;;
            --status) show_status=yes ;;
            --then-evaluate | --demo)
                if [[ $script != submit_train_jobs.sh ]]; then usage_error "$1 belongs to submit_train_jobs.sh"; fi
                if [[ $1 == --demo ]]; then demo=yes; else then_evaluate=yes; fi
                ;;
            --help | -h)
                sed -n '2,/^[^#]/ { /^#/ s/^# \{0,1\}//p }' "$script"
                exit 0
                ;;
            --)
                shift
                rest=("$@")
                break
                ;;
            *) usage_error "unknown option ${1@Q}; options for the Python script go after --" ;;
        esac
        shift
    done
    if ((${#models[@]} == 0 || ${#langs[@]} == 0)); then usage_error "expected a name after --models and --langs"; fi
}

usage_error() {
    echo "$script: $1" >&2
    exit 2
}

# For each model and training mix submit the jobs of these kinds (train, eval) that are left to do, or run them here.
run_grid() {
    local grid=(--models "${models[@]}" --langs "${langs[@]}" --subfolder="$subfolder" --kinds "$@")
    local plan main_kind=$1 not_done=()
    if [[ -n $local_run ]]; then grid+=(--local); fi
    if [[ -n $show_status ]]; then
        python utils/cluster/status.py "${grid[@]}" -- "${rest[@]}"
        return
    fi
    if [[ -z $local_run$dry_run ]] && ! command -v sbatch > /dev/null; then
        usage_error "no Slurm here (sbatch is not on the PATH): use --local to run on this machine, or --dry-run"
    fi
    # the plan, a line per job; what is wrong with the grid, or done already, is told on stderr
    plan=$(python utils/cluster/plan.py "${grid[@]}" --max-jobs="$max_jobs" -- "${rest[@]}")
    if [[ -z $plan ]]; then return; fi
    if [[ -n $local_run ]]; then run_here; else submit; fi
    if ((${#not_done[@]})); then
        echo "$script: not done: ${not_done[*]}" >&2
        return 1
    fi
}

# Submit the jobs of $plan. A dependency names jobs by their number, or by their line in the plan, as @LINE.
submit() {
    local ids=("") kind name folder model mix dependency command
    while read -r kind name folder model mix dependency; do
        if [[ $kind == untrained ]]; then
            not_done+=("$name")
            continue
        fi
        while [[ $dependency =~ @([0-9]+) ]]; do
            dependency=${dependency/"${BASH_REMATCH[0]}"/${ids[BASH_REMATCH[1]]}}
        done
        command=(sbatch --parsable --job-name="$name" --output="$folder/$kind.txt" --dependency="$dependency"
            --kill-on-invalid-dep=yes "run_$kind.sh" "$model" "$mix")
        add_options "$kind"
        if [[ -n $dry_run ]]; then
            printf '%q ' "${command[@]}" && echo
            ids+=("JOB${#ids[@]}")
        else
            mkdir -p "$folder" # Slurm does not make the folder of --output
            ids+=("$("${command[@]}")")
            ids[-1]=${ids[-1]%%;*} # on some sites the cluster's name follows the number
            echo "job ${ids[-1]}: $name"
        fi
    done <<< "$plan"
}

# Run what $plan has one after the other, with the log on the screen and in the run's folder.
run_here() {
    local kind name folder model mix dependency command status=0
    while read -r -u 3 kind name folder model mix dependency; do
        if [[ $kind == untrained ]] || [[ $dependency == *afterok* && $status != 0 ]]; then
            not_done+=("$name")
            continue
        fi
        command=(bash "run_$kind.sh" "$model" "$mix")
        add_options "$kind"
        if [[ -n $dry_run ]]; then
            printf '%q ' "${command[@]}" && echo
            continue
        fi
        echo "== $kind $model $mix"
        mkdir -p "$folder"
        status=0
        "${command[@]}" 2>&1 < /dev/null | tee --append --ignore-interrupts "$folder/$kind.txt" || status=$?
        if ((status > 128)); then exit "$status"; fi # interrupted: not the other runs either
        if ((status)); then not_done+=("$name"); fi
    done 3<<< "$plan"
}

# Add to $command what the user gave after --; evaluations submitted with their trainings get the subfolder alone.
add_options() {
    if [[ -n $subfolder ]]; then command+=(--subfolder="$subfolder"); fi
    if [[ $1 == "$main_kind" ]]; then command+=("${rest[@]}"); fi
}
