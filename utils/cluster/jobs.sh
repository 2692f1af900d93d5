#!/bin/bash
# What submit_train_jobs.sh and submit_eval_jobs.sh share: one check before the loop, and how a job is started.

# a relative path of the corpus is relative to the user's folder
if [[ -n ${REGISTER_CORPUS:-} ]]; then REGISTER_CORPUS=$(realpath -m -- "${REGISTER_CORPUS/#\~\//$HOME/}"); fi
cd "$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")" || exit
source run_eval.sh # for its eval_langs
# shellcheck disable=SC2034 # the submit scripts use them
options=() eval_options=() # passed on to finetune.py and evaluate.py

# Set the variables from the options, and three lists by the names of jobs, such as train-xlmr-en: to_do, those to be
# started; not_done, those that can't be; job, the numbers of those in the queue. Ends the script for --help, --status
# and if anything is wrong.
check_grid() { # KIND WORDS…
    local queue="" check answer words=" $* "
    words="${words%% -- *} "
    if [[ $words == *" --help "* || $words == *" -h "* ]]; then
        sed -n '2,/^[^#]/ { /^#/ s/^# \{0,1\}//p }' "${0##*/}"
        exit
    fi
    if [[ ! $words =~ \ --(local|dry-run|status)\  ]] && ! command -v sbatch > /dev/null; then
        echo "${0##*/}: there is no Slurm here (no sbatch); --local runs everything on this machine, --dry-run shows the jobs" >&2
        exit 2
    fi
    source utils/load_env.sh
    if [[ $words != *" --local "* ]] && command -v squeue > /dev/null; then # with a tab, columns are not cut
        queue=$(squeue --me --noheader 2>&1 \
            --Format=$'Name:\t,JobID:\t,State:\t,Reason:\t,TimeUsed:\t,RestartCnt:\t,WorkDir:\t') ||
            queue="squeue does not list your jobs: ${queue##*$'\n'}"
    fi
    # shellcheck disable=SC2154 # the variables of the submit scripts
    check=(python utils/cluster/grid.py "$1" --models "${models[@]}" --langs "${langs[@]}" --subfolder="$subfolder"
        --eval-langs "${eval_langs[@]}" "${@:2}")
    if [[ $words == *" --status "* ]]; then exec "${check[@]}" <<< "$queue"; fi
    answer=$("${check[@]}" <<< "$queue") || exit
    declare -gA to_do job
    eval "$answer"
}

# Run a command that submits a job; with --dry-run, print it; with --local, run the job's script here.
start() { # sbatch OPTIONS… run_*.sh ARGUMENTS…
    local answer line name log
    [[ $* =~ --job-name=([^ ]+) ]] && name=${BASH_REMATCH[1]}
    [[ $* =~ --output=([^ ]+) ]] && log=${BASH_REMATCH[1]}
    if [[ -n $here ]]; then
        while [[ $1 != run_*.sh ]]; do shift; done
        set -- bash "$@"
    fi
    if [[ -n $dry_run ]]; then
        printf -v line ' %q' "$@"
        line=${line//\\,/,}
        echo "${line:1}"
        job[$name]=JOB$((${#job[@]} + 1))
        return
    fi
    mkdir -p "${log%/*}" # Slurm does not
    if [[ -n $here ]]; then
        run_here "$name" "$log" "$@"
        return
    fi
    answer=$("$@") || stop "sbatch refused $name; the same command submits what is missing"
    # the number has a line of its own, with ;CLUSTER on some sites; others print a greeting before it
    job[$name]=$(sed -n 's/^\([0-9]\{1,\}\)\(;.*\)\{0,1\}$/\1/p' <<< "$answer" | tail -n 1)
    if [[ -z ${job[$name]} ]]; then stop "sbatch returned no job number for $name, but: $answer"; fi
    echo "job ${job[$name]}: $name"
}

# Run the script of a job, with its output on the screen and in its log. A signal ends it, and the loop with it.
run_here() { # NAME LOG COMMAND…
    local code=0 interrupted=""
    echo "== $1"
    set -m # in a process group of its own, so that Ctrl-C reaches it only once, through the trap
    "${@:3}" < /dev/null 2>&1 | tee --append --output-error=warn-nopipe "$2" &
    set +m
    trap 'interrupted=yes; kill -TERM "$(jobs -p %%)"' INT TERM HUP USR2
    { wait "$!"; } 2> /dev/null || code=$? # a signal ends the wait early, with 128 + its number
    if [[ -n $interrupted ]]; then
        wait "$!" || true # until it has saved a checkpoint
        exit "$((code > 0 ? code : 143))"
    fi
    trap - INT TERM HUP USR2
    if ((code > 128)); then echo "$1: was ended by SIG$(kill -l "$code"); continuing with the others" >&2; fi
    if ((code)); then not_done+=("$1"); fi
    if ((code)) && [[ -n ${to_do["eval-${1#train-}"]:-} ]]; then # the evaluation of this training
        not_done+=("eval-${1#train-}")
        to_do["eval-${1#train-}"]=""
    fi
}

stop() { # MESSAGE
    echo "${0##*/}: $1" >&2
    exit 1
}
