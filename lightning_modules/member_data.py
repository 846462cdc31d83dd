"""What the members of an ensemble train on, and in which order each goes through it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from poison_and_defend.core.streams import epoch_order


@dataclass(frozen=True, eq=False)
class EnsembleData:
    """The training sets of M members that share most of their rows.

    Attributes:
        pool: ``(V * P, ...)`` uint8 images or float features: every row that any member trains on, once per view.
        labels: ``(P,)`` int64.
        rows: ``(M, N)`` int64 below P: the rows that make up each member's training set, in order.
        views: V, how many augmented versions of every row there are, one after another; each step takes one at random.
    """

    pool: Tensor
    labels: Tensor
    rows: Tensor
    views: int = 1

    def members(self, chosen: Sequence[int]) -> "EnsembleData":
        """The same pool seen by some of the members."""
        return replace(self, rows=self.rows[list(chosen)])


class MemberOrder(Sampler[Tensor]):
    """Index batches ``(M, B)``: every member goes through its own permutation, the one a single model of its seed draws.

    Attributes:
        kept: ``(M, N)`` bool, the rows that are still gone through, from the next epoch on; None for all. An epoch keeps its
            number of steps, since all members take theirs together: what is left comes again, in its order, until it is full.
    """

    def __init__(self, count: int, batch_size: int, seeds: Sequence[int]) -> None:
        self.count, self.batch_size, self.seeds, self.epoch = count, batch_size, seeds, 0
        self.kept: Tensor | None = None

    def set_epoch(self, epoch: int) -> None:
        """Lightning's, before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        if self.batch_size >= self.count and self.kept is None:
            # The gradient of a whole set knows no order.
            yield torch.arange(self.count).expand(len(self.seeds), -1)
            return
        orders = torch.stack([epoch_order(self.count, seed, self.epoch) for seed in self.seeds])
        if self.kept is not None:
            left = [order[own[order]] for order, own in zip(orders, self.kept, strict=True)]
            orders = torch.stack([order.repeat(-(-self.count // len(order)))[: self.count] for order in left])
        yield from orders.split(self.batch_size, dim=1)


class Indices(Dataset[Tensor]):
    """Hands the sampler's indices on; the module gathers rows where the pool lies."""

    def __getitem__(self, index: Tensor) -> Tensor:
        return index


def as_float(inputs: Tensor) -> Tensor:
    """Rows of a pool as members take them: uint8 images as float in [0, 1], features as they are."""
    return inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs
