"""The control of votes with trusted rows: those rows alone."""

import torch
from torch import Tensor

from poison_and_defend.core.bounds import at_least
from poison_and_defend.defenses.voting.base import Reading, Rows
from poison_and_defend.defenses.voting.heads import trusted_head
from poison_and_defend.defenses.voting.space import Space

_TESTED = 2048
"""Test images that are asked about at once."""


class TrustedOnly(Reading):
    """One ridge regression on trusted rows alone, which no change of a received row can touch: what a vote must better.

    Args:
        trusted: Rows out of the attacker's reach, as many of each class as of any other.

    Raises:
        InputError: If there are fewer than two.
    """

    name = "trusted_only"
    label = "trusted rows alone"
    color = "#7f8c8d"

    def __init__(self, trusted: int = 100) -> None:
        at_least("trusted", trusted, 2, f"--arms.{self.name}.trusted")
        self.trusted = trusted

    def read(self, received: Rows, trusted: Rows, tested: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """See :meth:`Reading.read`."""
        space = Space.fit(*trusted)
        known = space.place(trusted.features)
        head = trusted_head(known, trusted.labels, num_classes)
        answers = torch.cat([(space.place(own) @ known.T @ head).argmax(1) for own in tested.split(_TESTED)])
        return answers, torch.full((len(tested),), len(received.labels))
