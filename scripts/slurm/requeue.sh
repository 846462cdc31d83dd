# Sourced by the batch scripts beside it: what a job does that was stopped before it was done.
#
# SLURM sends SIGUSR1 two minutes before the time is up (#SBATCH --signal=USR1@120). A command that is sanitizing then finishes
# the block it is at and ends with status 75; anything else ends with 138, since all it has made is on disk already, or, for
# `fit`, Lightning saves a checkpoint and requeues the job itself. Started again, every command continues.

PYTHON=${PYTHON:-$SLURM_SUBMIT_DIR/.venv/bin/python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}

# Arguments for the ranks of this allocation; SLURM, configuration and command line cannot disagree about them.
RANKS=(--trainer.num_nodes "$SLURM_NNODES" --trainer.devices "${SLURM_NTASKS_PER_NODE:-1}")

# run_or_requeue COMMAND...: run it under srun; where it was stopped in time, give the job back to the queue.
run_or_requeue() {
    local status=0
    srun --kill-on-bad-exit=1 "$@" || status=$?
    # 143: SIGTERM, as on preemption.
    if [[ $status == 75 || $status == 138 || $status == 143 ]]; then
        if ((${SLURM_RESTART_COUNT:-0} < ${MAX_RESTARTS:-100})); then
            echo "stopped with status $status; job $SLURM_JOB_ID goes back to the queue and continues"
            scontrol requeue "$SLURM_JOB_ID"
            # The job ends here, or it would be counted as failed before it is requeued.
            sleep 60
        else
            echo "stopped with status $status after ${SLURM_RESTART_COUNT} restarts; not queued again" >&2
        fi
    fi
    return "$status"
}
