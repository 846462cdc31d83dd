"""Starting the ranks of a stage."""

import logging
import os
from dataclasses import dataclass
from functools import cache

import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.interrupts import remember_ranks
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.training.machine import check_machine

# What launchers tell the processes that they start.
_LAUNCHED = (
    "SLURM_NTASKS",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "RANK",
    "GROUP_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "LSB_JOBID",
)


@dataclass(frozen=True)
class Launch:
    """Where a stage runs; the names and values are those of Lightning's Trainer.

    Args:
        accelerator: ``auto``, ``cpu``, ``gpu`` and so on.
        devices: Processes per node.
        num_nodes: Nodes, under srun.
        strategy: ``auto`` or ``ddp``.

    Raises:
        InputError: If this machine has no such accelerator or not as many devices, or the strategy is another.
    """

    accelerator: str = "auto"
    devices: int | str = "auto"
    num_nodes: int = 1
    strategy: str = "auto"

    def __post_init__(self) -> None:
        check_machine(self.accelerator, self.devices, self.num_nodes, self.strategy)
        if self.strategy not in ("auto", "ddp"):
            raise InputError(f"strategy is {self.strategy!r}: a stage takes auto or ddp (--trainer.strategy ddp)")

    def start(self) -> Ranks:
        """Start the other ranks, or join those that srun started; code after this runs on every rank.

        Started once however often it is called: several experiments of one command share their ranks.
        """
        return _start(self)

    def is_one_cpu_process(self) -> bool:
        """Whether there is nothing to start."""
        on_cpu = self.accelerator == "cpu" or (self.accelerator == "auto" and not torch.accelerator.is_available())
        alone = str(self.devices) in ("1", "auto") and self.num_nodes == 1 and self.strategy == "auto"
        return on_cpu and alone and not any(name in os.environ for name in _LAUNCHED)


@cache
def _start(launch: Launch) -> Ranks:
    if launch.is_one_cpu_process():
        # Importing Lightning takes as long as sanitizing a thousand small images.
        return Ranks()
    import lightning as L

    quiet_lightning()
    # A fit inside a rank trains its own members, so that the ranks share no gradients: Fabric launches them and no
    # model is ever wrapped.
    fabric = L.Fabric(
        accelerator=launch.accelerator, devices=launch.devices, num_nodes=launch.num_nodes, strategy=launch.strategy
    )
    fabric.launch()
    ranks = Ranks.of(fabric)
    remember_ranks(ranks.children)
    return ranks


def quiet_lightning() -> None:
    """A stage starts several Trainers, each of which would introduce itself."""
    # Importing sets the level, so that it must come first.
    import lightning  # noqa: F401

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
