"""Starting the ranks of a stage, and the small Trainers that run inside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import SingleDeviceStrategy

from ranks import Ranks
from stages.requeue import NO_CHECKPOINTS


@dataclass(frozen=True)
class Launch:
    """Where a stage runs; the names and values are those of Lightning's Trainer.

    Args:
        accelerator: ``auto``, ``cpu``, ``gpu`` and so on.
        devices: Processes per node.
        num_nodes: Nodes, under srun.
        strategy: ``auto`` or ``ddp``.
    """

    accelerator: str = "auto"
    devices: int | str = "auto"
    num_nodes: int = 1
    strategy: str = "auto"

    def start(self) -> Ranks:
        """Start the other ranks, or join those that srun started; code after this runs on every rank.

        Started once however often it is called: several experiments of one command share their ranks.
        """
        return _start(self)


@cache
def _start(launch: Launch) -> Ranks:
    # A fit inside a rank trains its own members, so that the ranks share no gradients: Fabric launches them and no
    # model is ever wrapped.
    fabric = L.Fabric(
        accelerator=launch.accelerator, devices=launch.devices, num_nodes=launch.num_nodes, strategy=launch.strategy
    )
    fabric.launch()
    return Ranks.of(fabric)


def local_trainer(ranks: Ranks, *, epochs: int, callbacks: Sequence[Callback] = (), logger: Logger | None = None) -> L.Trainer:
    """A Trainer for this rank's own members: it sees one device and no other rank, and writes nothing but to ``logger``."""
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
