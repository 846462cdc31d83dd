"""A control of filters: as many rows as they drop, drawn by chance."""

import numpy as np
import torch
from torch import Tensor

from poison_and_defend.defenses.filters.base import Received, Workshop
from poison_and_defend.defenses.filters.per_class import DropHighest

# A setup's seed also draws its bases: rows must not be dropped by the same numbers.
_STREAM = 0x7A4D


class RandomFilter(DropHighest):
    """Drop random rows of every class: a control that shows what dropping so many rows does by itself.

    It is told what the other filters are told, and drops as many rows of each class as :class:`SpectralSignatures` of the same
    bound and factor. Which ones depends on the setup's seed and on the labels, and on no image. Whatever a filter achieves
    beyond this arm it achieves by choosing rows.

    Args:
        bound: At most how many rows of one class are poisons; null for what the run tells all filters.
        factor: How many rows of each class go for each poison that the bound allows.

    Raises:
        InputError: If a value is out of range.
    """

    name = "random_filter"
    color = "#b9b4a6"
    needs = "nothing"

    def __init__(self, bound: int | None = None, factor: float = 1.5) -> None:
        super().__init__(bound, factor)

    def scores(self, received: Received, workshop: Workshop) -> Tensor:
        """See :meth:`DropHighest.scores`."""
        return torch.from_numpy(np.random.default_rng([_STREAM, received.seed]).random(len(received)))
