"""Neighbours whose weight falls off with their distance: a bounded kernel, whose certificate is this project's own."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from poison_and_defend.certification.deterministic import neighbour_vote
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.voting.base import Reading, Rows
from poison_and_defend.defenses.voting.space import Space

_TESTED = 2048
"""Test images that are compared at once."""

_MOST = 50
"""The most changed rows that an answer is asked to stand: what is asked costs time and memory."""


class Kernel(Reading):
    """The class whose training rows weigh most, by the sigmoid of ``(cosine - radius) / width``; nothing is trained.

    A row weighs between 0 and 1 whatever it is changed to, so that a changed row takes from the lead at most what a row of the
    winner's weighs, or what a row of the rival's lacks (:func:`neighbour_vote`). Near rows count more than far ones, and what
    is proved is of fifty changed rows at most.

    Args:
        radius: Cosine at which a row weighs a half, above -1 and below 1.
        width: What the sigmoid's argument is divided by, above 0: over ``2.2 width`` a weight rises from a quarter to three.
        trusted: Rows out of the attacker's reach, whose features say how likeness is measured (:class:`Space`); 0 for the plain
            cosine of features.

    Raises:
        InputError: If a value is out of range.
    """

    name = "kernel"
    label = "kernel vote"
    color = "#6a68b8"

    def __init__(self, radius: float = 0.6, width: float = 0.05, trusted: int = 0) -> None:
        if not -1 < radius < 1:
            raise InputError(f"radius is {radius:g}: a cosine above -1 and below 1 (--arms.{self.name}.radius)")
        if not width > 0:
            raise InputError(f"width is {width:g}: it is above 0 (--arms.{self.name}.width)")
        at_least("trusted", trusted, 0, f"--arms.{self.name}.trusted")
        self.radius, self.width, self.trusted = radius, width, trusted

    def read(self, received: Rows, trusted: Rows, tested: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """See :meth:`Reading.read`."""
        place = Space.fit(*trusted).place if self.trusted else functional.normalize
        rows, votes = place(received.features), []
        for own in tested.split(_TESTED):
            weights = torch.sigmoid((place(own) @ rows.T - self.radius) / self.width)
            votes.append(neighbour_vote(weights.numpy(), received.labels.numpy(), num_classes, _MOST))
        labels, poisons = (torch.from_numpy(np.concatenate(column)) for column in zip(*votes, strict=True))
        return labels, poisons
