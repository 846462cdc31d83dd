"""Jia, Liu, Cao, Gong, "Certified Robustness of Nearest Neighbors against Data Poisoning and Backdoor Attacks", AAAI 2022."""

import torch
from torch import Tensor
from torch.nn import functional

from poison_and_defend.certification.deterministic import radius_poisons
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.voting.base import Reading, Rows

_TESTED = 2048
"""Test images that are compared at once."""


class Neighbours(Reading):
    """The class of most training rows whose features are at least so much like the test image's; nothing is trained.

    Likeness is the cosine of features of a frozen network. A row that is changed under its label adds or takes away one
    neighbour, so that an answer stands while its lead over every other class is larger than the number of changed rows; ties go
    to the smaller class (:func:`radius_poisons`). That is certain, whatever the changed rows look like.

    Args:
        radius: Cosine from which a training row is a neighbour, above -1 and below 1.

    Raises:
        InputError: If the radius is out of range.
    """

    name = "neighbours"
    label = "radius neighbours"
    color = "#7d5aa6"

    def __init__(self, radius: float = 0.55) -> None:
        if not -1 < radius < 1:
            raise InputError(f"radius is {radius:g}: a cosine above -1 and below 1 (--arms.{self.name}.radius)")
        self.radius = radius

    def read(self, received: Rows, trusted: Rows, tested: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """See :meth:`Reading.read`."""
        rows, hot = functional.normalize(received.features, dim=1), functional.one_hot(received.labels, num_classes).float()
        near = ((functional.normalize(own, dim=1) @ rows.T) >= self.radius for own in tested.split(_TESTED))
        counts = torch.cat([own.float() @ hot for own in near]).round().long()
        return counts.argmax(1), torch.from_numpy(radius_poisons(counts.numpy()))
