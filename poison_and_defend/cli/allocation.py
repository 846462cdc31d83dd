"""A process in an allocation of SLURM that is no task of it: the shell of `salloc`, or a batch script without `srun`."""

import os

# SLURM numbers steps from 0; the shell of salloc, a batch script and what srun keeps for itself have numbers from here up.
_FIRST_SPECIAL_STEP = 0xFFFFFF00


def is_task() -> bool:
    """Whether `srun` started this process as a task of a step, beside which it may have others."""
    # SLURM_STEPID is the older name, which some sites set alone.
    step = os.environ.get("SLURM_STEP_ID", os.environ.get("SLURM_STEPID", ""))
    return "SLURM_PROCID" in os.environ and step.isdecimal() and int(step) < _FIRST_SPECIAL_STEP


def leave_idle_allocation() -> None:
    """Work as one process, as asked, where SLURM has room for several tasks but started none.

    Lightning takes `SLURM_NTASKS` for the number of ranks that were started, and then fails for want of a rank or waits for the
    others. What SLURM says of a lone task is left alone: a batch script of one task is requeued by it.
    """
    alone = os.environ.get("SLURM_NTASKS") == "1" and "SLURM_PROCID" in os.environ
    if "SLURM_NTASKS" in os.environ and not is_task() and not alone:
        del os.environ["SLURM_NTASKS"]
