"""The interface of votes."""

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.base import Defense


class Voting(Defense):
    """Many models on parts of the set, and their vote."""

    ranked: ClassVar[bool] = False
    """Whether models are asked to rank all classes, rather than for the one that they answer."""

    @abstractmethod
    def parts(self, keys: Tensor, labels: Tensor, num_classes: int) -> list[Tensor]:
        """Positions in the set that each model trains on.

        Args:
            keys: ``(N,)`` int64, the rows' numbers in the data set that was first read.
            labels: ``(N,)`` int64.
            num_classes: Of the data set.

        Returns:
            One ``(n,)`` int64 tensor a model, none of them empty.
        """

    def decide(self, votes: Tensor, num_classes: int) -> Tensor:
        """The models' answers ``(V, T)`` int64 to the vote's ``(T,)``; by default the most frequent, ties go to the smaller.

        Of a vote that is ``ranked``, these are each class's place in the model's order, 0 for the first, ``(V, T, C)`` uint8.
        """
        return count_votes(votes, num_classes).argmax(1)

    def withstands(self, votes: Tensor, num_classes: int, rows: int) -> Tensor | None:
        """How many of ``rows`` training rows may change and provably leave each answer as it is, ``(T,)`` int64.

        None, the default, where nothing is proved.
        """
        del votes, num_classes, rows
        return None

    def seeds(self, seed: int, count: int) -> list[int]:
        """Training seeds of a victim's models, which a certificate needs to be fixed beforehand: far apart, from its own."""
        # Training adds epochs and steps to a seed, and torch's CPU generator looks at its lowest 32 bits.
        return [(seed + (number + 1) * 2**14) % 2**62 for number in range(count)]

    def check_parts(self, parts: list[Tensor], count: int) -> None:
        """Refuse parts that cannot be trained on.

        Raises:
            InputError: If there are fewer than two, or one is empty or names a row that is not there.
        """
        if len(parts) < 2:
            raise InputError(f"the vote {self.name} has {len(parts)} parts: at least 2 are needed (--arms.{self.name})")
        for number, rows in enumerate(parts):
            if len(rows) == 0:
                raise InputError(
                    f"part {number} of {len(parts)} of the vote {self.name} has none of the {count} rows: make fewer parts "
                    f"(--arms.{self.name})"
                )
            if int(rows.min()) < 0 or int(rows.max()) >= count:
                raise InputError(
                    f"part {number} of the vote {self.name} names row {int(rows.max())} of {count} rows (--arms.{self.name})"
                )


class Rows(NamedTuple):
    """Rows as a frozen network sees them.

    Attributes:
        features: ``(n, F)`` float32, of a network that was frozen before the received rows came.
        labels: ``(n,)`` int64.
    """

    features: Tensor
    labels: Tensor


class Reading(Voting):
    """A vote of the training rows themselves, by their features: no network is trained, and the victim is the vote."""

    trusted: int = 0
    """How many rows it needs that are out of the attacker's reach, with labels that can be relied on."""

    def parts(self, keys: Tensor, labels: Tensor, num_classes: int) -> list[Tensor]:
        """None: nothing is trained."""
        return []

    def told(self, bound: int | None) -> str:
        """See :meth:`Defense.told`: which rows can be trusted."""
        return f"{self.trusted} trusted rows" if self.trusted else ""

    @abstractmethod
    def read(self, received: Rows, trusted: Rows, tested: Tensor, num_classes: int) -> tuple[Tensor, Tensor | None]:
        """Answer test images.

        Args:
            received: The training rows.
            trusted: Those out of the attacker's reach, :attr:`trusted` of them.
            tested: ``(T, F)`` float32.
            num_classes: Of the data set.

        Returns:
            Classes ``(T,)`` int64, and how many changed rows provably leave each as it is, ``(T,)`` int64; None where nothing
            is proved.
        """


def count_votes(votes: Tensor, num_classes: int) -> Tensor:
    """Answers ``(V, T)`` to how many there are of each class, ``(T, num_classes)`` int64."""
    counts = torch.zeros(votes.shape[1], num_classes, dtype=torch.int64)
    return counts.scatter_add_(1, votes.t().cpu(), torch.ones_like(votes.t().cpu()))
