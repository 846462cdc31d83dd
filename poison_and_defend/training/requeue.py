"""A job that the scheduler started again continues its own training, never another's."""

import os
from pathlib import Path

import lightning as L
from lightning.pytorch.plugins.environments import SLURMEnvironment

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import write_bytes
from poison_and_defend.core.reading.files import brief, read_regular

NO_CHECKPOINTS = str(Path(os.devnull) / "checkpoints")
"""A ``default_root_dir`` in which there is nothing and nothing can be put."""

_OWNER = ".hpc_owner"


def refuse_foreign_checkpoint(trainer: L.Trainer, what: str) -> None:
    """Say whose the checkpoints in the Trainer's folder are that Lightning saves before it requeues a job.

    Under SLURM any later fit with the same ``default_root_dir`` loads the newest of them without being asked: a victim would
    start from whatever was trained there before.

    Args:
        trainer: About to fit.
        what: What it trains, the same words each time.

    Raises:
        InputError: If there is one that another job made, or this job for something else.
    """
    folder = Path(trainer.default_root_dir)
    if not SLURMEnvironment.detect():
        return
    owner = f"{os.environ.get('SLURM_JOB_ID', '')} {what}"
    found = sorted(folder.glob("hpc_ckpt_*.ckpt"))
    if found:
        try:
            other = read_regular(folder / _OWNER, 1 << 16).decode()
        except (OSError, ValueError):
            other = "unknown"
        if other != owner:
            raise InputError(
                f"{found[-1]} was left by another job or training (job {brief(other)}, this is {owner}) and would be "
                "continued: remove it or choose another folder (--trainer.default_root_dir)"
            )
    elif trainer.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / _OWNER, owner.encode())
