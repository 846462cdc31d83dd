"""Spectral signatures: Tran, Li, Madry, "Spectral Signatures in Backdoor Attacks", NeurIPS 2018."""

import torch
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.filters.base import Filter, Received, Verdict, Workshop


class SpectralSignatures(Filter):
    """Algorithm 1: in each class, drop the rows that stand out along the direction in which the class varies most.

    Features of a class are centred at the class's mean, ``v`` is their first right singular vector, and a row's score is
    ``((f(x) - mean) v)^2``. Where at most ``b`` rows of a class are poisons, the ``1.5 b`` of highest score go, from every
    class, since nobody knows which one is poisoned.

    Two things that public code does otherwise: features are centred, and the bound is one for a class, not a share of the
    whole set for each class.

    Args:
        bound: At most how many rows of one class are poisons; null for what the run tells all filters.
        factor: How many rows go for each poison that the bound allows; the paper's is 1.5.

    Raises:
        InputError: If a value is out of range.
    """

    name = "spectral_signatures"
    color = "#7a5c3e"

    def __init__(self, bound: int | None = None, factor: float = 1.5) -> None:
        self.given = {"bound": bound, "factor": factor}
        if bound is not None and bound < 1:
            raise InputError(f"bound is {bound}: it is at least 1 (--arms.{self.name}.bound)")
        if not 1 <= factor < float("inf"):
            raise InputError(f"factor is {factor:g}: it is a number of at least 1 (--arms.{self.name}.factor)")
        self.bound, self.factor = bound, factor

    def dropped(self, bound: int | None) -> int:
        """How many rows of each class go where the run tells of ``bound`` poisons.

        Raises:
            InputError: If neither the run nor its own argument bounds the poisons.
        """
        told = bound if self.bound is None else self.bound
        if told is None:
            raise InputError(f"{self.name} must be told how many poisons a class has at most (--arms.{self.name}.bound)")
        return int(self.factor * told)

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
        features, count = workshop.features(), self.dropped(received.bound)
        scores, kept = torch.zeros(len(received), dtype=torch.float64), torch.ones(len(received), dtype=torch.bool)
        for label in received.labels.unique():
            rows = (received.labels == label).nonzero()[:, 0]
            scores[rows] = outlier_scores(features[rows])
            # The lower row number first where scores are equal, on any machine.
            order = scores[rows].argsort(descending=True, stable=True)
            kept[rows[order[:count]]] = False
        return Verdict(kept, scores)


def outlier_scores(features: Tensor) -> Tensor:
    """Squared components of one class's centred features along their first right singular vector.

    Args:
        features: ``(n, F)`` float.

    Returns:
        ``(n,)`` float64.
    """
    centred = features.double() - features.double().mean(0)
    first = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    scores: Tensor = (centred @ first).square()
    return scores
