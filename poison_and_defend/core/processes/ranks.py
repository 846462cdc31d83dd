"""Who takes part in this launch: the little that code outside a Trainer needs to know about its ranks."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch


def _no_barrier(name: str) -> None:
    del name


@dataclass(frozen=True)
class Ranks:
    """This process among those of the launch.

    Attributes:
        rank: From 0.
        world: Number of processes.
        device: Where this rank computes.
        barrier: Returns once every rank has called it.
        children: Processes that this one started, which are ranks too.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    barrier: Callable[[str], None] = _no_barrier
    children: tuple[int, ...] = ()

    def share(self, count: int) -> range:
        """The numbers below ``count`` that fall to this rank: every world-th, so that loads are even."""
        return range(self.rank, count, self.world)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in the order of ranks, on every rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(values, value)
        return values

    @classmethod
    def of(cls, launcher: Any) -> "Ranks":
        """From a running Lightning ``Trainer`` or a launched ``Fabric``."""
        strategy = launcher.strategy
        processes = getattr(strategy.launcher, "procs", [])
        children = tuple(process.pid for process in processes)
        return cls(launcher.global_rank, launcher.world_size, strategy.root_device, strategy.barrier, children)


def is_first_rank() -> bool:
    """Whether this process is rank 0 of its launch, for code that is given no `Ranks`.

    Lightning and Fabric number the ranks before anything is read; where neither was imported there is one process.
    """
    numbered = getattr(sys.modules.get("lightning.fabric.utilities.rank_zero"), "rank_zero_only", None)
    return getattr(numbered, "rank", 0) in (0, None)
