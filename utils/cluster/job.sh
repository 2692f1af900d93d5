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

# a relative corpus counts from where the user is
if [[ -n ${REGISTER_CORPUS:-} ]]; then REGISTER_CORPUS=$(realpath -m -- "${REGISTER_CORPUS/#\~\//$HOME/}"); fi
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

max_turns_without_progress=3

# Set model, langs and run, the run's folder, from a wrapper's arguments, or show its help, the comment at its top.
read_arguments() { # SCRIPT MODEL LANGS…
    if [[ ${2:-} == --help || ${2:-} == -h ]]; then
        sed -n '/^# /,$ { /^[^#]\|^$/q; s/^# \{0,1\}//p }' "$1"
        exit 0
    fi
    if (($# < 3)); then
        echo "$1: expected MODEL LANGS, as in: bash $1 xlmr en-fr" >&2
        exit 2
    fi
    model=$2 langs=$3 run=$2-$3
    while (($#)); do
        case $1 in
            --su*=*) run=${1#*=}/$model-$langs ;;
            --su*) run=${2:-}/$model-$langs ;;
            *) ;;
        esac
        shift
    done
}

# Run COMMAND… as the work of the run; return its exit code.
run_python() { # COMMAND…
    local before reason="" status=1 step
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
    if [[ -n $near_time_limit ]] && ((status)); then reason="the time limit is near"; fi
    if ((status == SLURM_EXIT_ERROR)); then reason="Slurm could not run this"; fi
    if [[ -z $reason ]]; then
        rm -f "outputs/.turns-$SLURM_JOB_ID"
        return "$status"
    fi
    requeue "$reason" "$([[ $(saved) == "$before" ]] || echo yes)"
}

# Put this job back into the queue, unless too many turns one after the other have saved nothing.
requeue() { # REASON HAS_SAVED
    local file=outputs/.turns-$SLURM_JOB_ID turns=0
    if [[ -z $2 ]]; then turns=$(($(cat "$file" 2> /dev/null || echo 0) + 1)); fi
    rm -f "$file"
    if ((turns > max_turns_without_progress)); then
        echo "$1, and $turns turns have saved nothing: submit it again, with a longer SBATCH_TIMELIMIT if it was short"
        return 1
    fi
    if ((turns)); then mkdir -p outputs && echo "$turns" > "$file"; fi
    echo "$1: job $SLURM_JOB_ID is requeued, and goes on from what is saved"
    scontrol requeue "$SLURM_JOB_ID"
}

# Print what the run has saved so far: its whole checkpoints, its evaluations.
saved() {
    printf '%s\n' "models/$run"/checkpoints/*/hashes.json "outputs/$run"/eval/*.json
}
