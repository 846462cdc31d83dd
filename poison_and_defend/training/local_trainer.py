"""The small Trainers that run inside the ranks of a stage."""

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import SingleDeviceStrategy

from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.training.launch import quiet_lightning
from poison_and_defend.training.requeue import NO_CHECKPOINTS


def local_trainer(ranks: Ranks, *, epochs: int, callbacks: Sequence[Callback] = (), logger: Logger | None = None) -> L.Trainer:
    """A Trainer for this rank's own members: it sees one device and no other rank, and writes nothing but to ``logger``."""
    quiet_lightning()
    cuda = ranks.device.type == "cuda"
    return L.Trainer(
        accelerator=ranks.device.type if cuda else "cpu",
        devices=[ranks.device.index or 0] if cuda else 1,
        strategy=SingleDeviceStrategy(device=ranks.device),
        # Without this a Trainer under srun insists on using every task.
        plugins=[LightningEnvironment()],
        # Under SLURM a Trainer looks there for the checkpoint of a job that was requeued, and loads it.
        default_root_dir=NO_CHECKPOINTS,
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=logger if logger is not None and ranks.rank == 0 else False,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )


class Threads:
    """Bounds CPU threads while weights' gradients are summed: their order of summation depends on the number."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        torch.set_num_threads(self.count)

    def __exit__(self, *error: Any) -> None:
        torch.set_num_threads(self.before)
