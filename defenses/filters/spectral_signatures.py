"""Spectral signatures: Tran, Li, Madry, "Spectral Signatures in Backdoor Attacks", NeurIPS 2018."""

import torch
from torch import Tensor

from poison_and_defend.defenses.filters.base import Received, Workshop
from poison_and_defend.defenses.filters.per_class import DropHighest, rows_by_class


class SpectralSignatures(DropHighest):
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
        super().__init__(bound, factor)

    def scores(self, received: Received, workshop: Workshop) -> Tensor:
        """See :meth:`DropHighest.scores`."""
        features, scores = workshop.features(), torch.zeros(len(received), dtype=torch.float64)
        for rows in rows_by_class(received.labels):
            scores[rows] = outlier_scores(features[rows])
        return scores


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
