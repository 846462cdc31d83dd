"""What filters have in common that drop a number of rows from each class, told how many of one class may be poisons."""

from abc import abstractmethod

import torch
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.filters.base import Filter, Received, Verdict, Workshop


class DropHighest(Filter):
    """Drop the rows of highest score from every class, since nobody knows which class is poisoned.

    Args:
        bound: At most how many rows of one class are poisons; null for what the run tells all filters.
        factor: How many rows of each class go for each poison that the bound allows.

    Raises:
        InputError: If a value is out of range.
    """

    def __init__(self, bound: int | None = None, factor: float = 1.5) -> None:
        self.given = {"bound": bound, "factor": factor}
        if bound is not None and bound < 1:
            raise InputError(f"bound is {bound}: it is at least 1 (--arms.{self.name}.bound)")
        if not 1 <= factor < float("inf"):
            raise InputError(f"factor is {factor:g}: it is a number of at least 1 (--arms.{self.name}.factor)")
        self.bound, self.factor = bound, factor

    @abstractmethod
    def scores(self, received: Received, workshop: Workshop) -> Tensor:
        """How suspicious each row is among those of its class.

        Args:
            received: The set.
            workshop: Networks and features, computed when they are first asked for.

        Returns:
            ``(N,)`` float64.
        """

    def most_poisons(self, bound: int | None) -> int:
        """How many rows of one class are poisons at most, by its own argument or else by what the run tells.

        Raises:
            InputError: If neither says.
        """
        told = bound if self.bound is None else self.bound
        if told is None:
            raise InputError(f"{self.name} must be told how many poisons a class has at most (--arms.{self.name}.bound)")
        return told

    def dropped(self, bound: int | None) -> int:
        """How many rows of each class go where the run tells of ``bound`` poisons.

        Raises:
            InputError: If neither the run nor its own argument bounds the poisons.
        """
        return int(self.factor * self.most_poisons(bound))

    def check_set(self, labels: Tensor, bound: int | None) -> None:
        """See :meth:`Filter.check_set`."""
        count = self.dropped(bound)
        for label, size in zip(*labels.unique(return_counts=True), strict=True):
            if count >= size:
                raise InputError(
                    f"{self.name} would drop {count} rows of each class and class {int(label)} has {int(size)}: tell it of "
                    f"fewer poisons (--arms.{self.name}.bound, --poisons_told)"
                )

    def judge(self, received: Received, workshop: Workshop) -> Verdict:
        """See :meth:`Filter.judge`."""
        scores, count = self.scores(received, workshop), self.dropped(received.bound)
        kept = torch.ones(len(received), dtype=torch.bool)
        for rows in rows_by_class(received.labels):
            # The lower row number first where scores are equal, on any machine.
            order = scores[rows].argsort(descending=True, stable=True)
            kept[rows[order[:count]]] = False
        return Verdict(kept, scores)


def rows_by_class(labels: Tensor) -> list[Tensor]:
    """The row numbers ``(n_c,)`` int64 of each class that occurs among labels ``(N,)``, in order of the labels."""
    return [(labels == label).nonzero()[:, 0] for label in labels.unique()]
