#!/bin/bash
# How run_train.sh and run_eval.sh run Python: as it is by hand, as one step of a Slurm job, which goes on in a
# new turn when its time limit is near. Sourced by both, first thing, so that no signal finds the job without a trap.
#
# A job is told of its time limit by SIGUSR2, five minutes ahead (#SBATCH --signal), and passes it on to its step:
# finetune.py saves a checkpoint and leaves. The job then requeues itself while it still runs: one that had
# failed would take its evaluation with it. SIGTERM from Slurm itself (preemption, scancel) reaches the
# step without help; Slurm requeues a preempted job, and a cancelled one stays cancelled.

near_time_limit="" in_job=""
# only Slurm starts a script under this name, its copy of what was submitted; SLURM_JOB_ID would say the same in every
# terminal within a job, and sbatch hands on a surrounding step's SLURM_STEP_ID
if [[ $0 == */slurm_script ]]; then
    in_job=yes SLURM_JOB_ID=${SLURM_JOB_ID:?}
    trap 'near_time_limit=yes; scancel --signal=USR2 "$SLURM_JOB_ID"' USR2 # to the step only
    trap : TERM # outlive the step, to see how it ended
fi

script=$(realpath "$0")
# a relative corpus counts from where the user is
if [[ -n ${REGISTER_CORPUS:-} ]]; then REGISTER_CORPUS=$(realpath -m -- "${REGISTER_CORPUS/#\~\//$HOME/}"); fi
cd "$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")" || exit

if (($# < 2)); then # --help, or wrong use: the comment at the top of the script
    sed -n '/^# /,$ { /^[^#]\|^$/q; s/^# \{0,1\}//p }' "$script"
    if [[ ${1:-} == --help || ${1:-} == -h ]]; then exit 0; fi
    exit 2
fi
run=$1-$2 # its folder
if [[ " ${*:3}" =~ " --su"[a-z]*[=\ ]([^ ]+) ]]; then run=${BASH_REMATCH[1]}/$run; fi # --subfolder
source utils/load_env.sh

most_requeues=3 # of a job whose last turn has saved nothing

# Run a command as the work of the run, and leave with its exit code.
run_python() { # COMMAND…
    local before reason status=1 step requeues=${SLURM_RESTART_COUNT:-0}
    if [[ -z $in_job ]]; then exec "$@"; fi

    export HF_HUB_OFFLINE=1 # nodes often have no internet: what is missing is told at once, not after a time-out
    export SLURM_EXIT_ERROR=75 # what srun leaves with where Slurm itself has failed, a lost node for example
    export REGISTER_JOB=$SLURM_JOB_ID # tells Python that this job is the run's own, and not one around a terminal
    # a job in which this one was submitted has handed these on, and srun would take them for options
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
        reason="Slurm could not run this"
    else
        exit "$status"
    fi
    if ((requeues >= most_requeues)) && [[ $(saved) == "$before" ]]; then
        echo "$reason, and after $requeues requeues this turn has saved nothing: submit it again, with a longer" \
            "SBATCH_TIMELIMIT if it was short"
        exit 1
    fi
    echo "$reason: job $SLURM_JOB_ID is requeued, and goes on from what is saved"
    scontrol requeue "$SLURM_JOB_ID"
}

# Print what the run has saved so far: its whole checkpoints, its evaluations.
saved() {
    printf '%s\n' "models/$run"/checkpoints/*/hashes.json "outputs/$run"/eval/*.json
}
