#!/bin/bash
# How run_train.sh and run_eval.sh run Python: directly when they are started by hand, and as a step of a Slurm job,
# which requeues itself near its time limit. Both source this first, so that the traps are set before a signal arrives.
#
# Five minutes before its time limit, a job receives SIGUSR2 (#SBATCH --signal) and passes it on to its step:
# finetune.py saves a checkpoint and exits. The job then requeues itself while it is still running, because a failed
# job would cancel its evaluation. SIGTERM from Slurm (preemption, scancel) reaches the step directly; Slurm requeues a
# preempted job, and a cancelled one stays cancelled.

near_time_limit="" in_job=""
# Slurm starts its copy of a script under this name; SLURM_JOB_ID and SLURM_STEP_ID are also set in a terminal that runs
# within a job
if [[ $0 == */slurm_script ]]; then
    in_job=yes SLURM_JOB_ID=${SLURM_JOB_ID:?}
    trap 'near_time_limit=yes; scancel --signal=USR2 "$SLURM_JOB_ID"' USR2 # to the step only
    trap : TERM # survive the step, to see how it ended
fi

script=$(realpath "$0")
# a relative path of the corpus is relative to the user's folder
if [[ -n ${REGISTER_CORPUS:-} ]]; then REGISTER_CORPUS=$(realpath -m -- "${REGISTER_CORPUS/#\~\//$HOME/}"); fi
cd "$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")" || exit

if (($# < 2)); then # --help, or wrong use: show the comment at the top of the script
    sed -n '/^# /,$ { /^[^#]\|^$/q; s/^# \{0,1\}//p }' "$script"
    if [[ ${1:-} == --help || ${1:-} == -h ]]; then exit 0; fi
    exit 2
fi
run=$1-$2 # its folder
if [[ " ${*:3}" =~ " --su"[a-z]*[=\ ]([^ ]+) ]]; then run=${BASH_REMATCH[1]}/$run; fi # --subfolder
source utils/load_env.sh

most_requeues=3 # in a row without having saved anything

# Run a command, and exit with its code.
run_python() { # COMMAND…
    local before reason status=1 step job futile=0 count=outputs/$run/.requeues
    if [[ -z $in_job ]]; then exec "$@"; fi

    export HF_HUB_OFFLINE=1 # nodes often have no internet: report a missing model at once, not after a time-out
    export SLURM_EXIT_ERROR=75 # the exit code of srun if Slurm itself has failed, as with a lost node
    export REGISTER_JOB=$SLURM_JOB_ID # tells Python that this job was submitted for the run
    # if this job was submitted from within another one, it has inherited these, and srun would obey them
    unset "${!SLURM_STEP@}" "${!SLURM_CPU_BIND@}" "${!SLURM_MEM_@}" "${!SLURM_GPUS_PER@}" "${!SLURM_NTASKS_PER@}" \
        "${!SLURM_TRES@}" SLURM_GPUS SLURM_DISTRIBUTION
    before=$(saved)
    if [[ -z $near_time_limit ]]; then
        srun --export=ALL --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "$@" &
        step=$!
        while kill -0 "$step" 2> /dev/null; do wait "$step" || true; done # a trapped signal ends a wait early
        wait "$step" && status=0 || status=$?
    fi
    if [[ -n $near_time_limit ]] && ((status)); then
        reason="the time limit is near"
    elif ((status == SLURM_EXIT_ERROR)); then
        reason="Slurm could not run this step"
    else
        rm -f "$count"
        exit "$status"
    fi
    # after preemptions and turns with progress, the count starts again
    if [[ $(saved) == "$before" ]]; then
        read -r job futile 2> /dev/null < "$count" && [[ $job == "$SLURM_JOB_ID" ]] || futile=0
        futile=$((futile + 1))
    fi
    if ((futile > most_requeues)); then
        rm -f "$count"
        echo "$reason, and the job has saved nothing after $most_requeues requeues: submit it again, with a longer" \
            "SBATCH_TIMELIMIT if it was too short"
        exit 1
    fi
    mkdir -p "${count%/*}"
    echo "$SLURM_JOB_ID $futile" > "$count"
    echo "$reason: job $SLURM_JOB_ID is requeued, and will resume from what it has saved"
    scontrol requeue "$SLURM_JOB_ID"
}

# Print what the run has saved so far: complete checkpoints, evaluations.
saved() {
    printf '%s\n' "models/$run"/checkpoints/*/hashes.json "outputs/$run"/eval/*.json
}
