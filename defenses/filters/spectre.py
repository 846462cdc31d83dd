"""SPECTRE: Hayase, Kong, Somani, Oh, "SPECTRE: Defending Against Backdoor Attacks Using Robust Statistics", ICML 2021."""

import torch
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.filters.base import Received, Workshop
from poison_and_defend.defenses.filters.per_class import DropHighest, rows_by_class

_DIMENSIONS = [side * side for side in range(1, 11)]
# The allowance of rows that the robust covariance may leave out goes in so many equal parts.
_ROUNDS = 8
# Of the iterations for a single eigenvector: more change nothing that a filter would notice.
_STEPS = 30
# How little above 1 the largest variance of whitened rows is rounding: dividing by it would make a direction of nothing.
_LEAST_EXCESS = 1e-6
# Variances below this share of the largest are rounding.
_RANK = 1e-9


class Spectre(DropHighest):
    """Algorithm 1: in each class, drop the rows that stand out once the class is whitened by what a clean one would vary by.

    Features are reduced to their first k principal components and whitened by a covariance that up to ``2 b`` poisons cannot
    spoil. With ``S`` the covariance of all whitened rows, ``M = exp(alpha (S - I) / (|S| - 1))`` weighs directions by how much
    more they vary than they should, and a row's score is ``x' M x / tr M`` (quantum entropy, QUE). The ``1.5 b`` rows of
    highest score go. Of k = 1, 4, 9, ..., 100 the one counts whose S has the largest variance under these weights,
    ``tr(M S) / tr M`` (Algorithm 3).

    Where it differs: the authors are given the poisoned class and the exact number of its poisons, here every class is
    filtered, by the bound that all filters are told. Rows are centred at the mean of those that the robust covariance keeps,
    not at the mean of all. The covariance filter is that of Diakonikolas et al. (2017), which the paper uses, without the
    constants of its proof (:func:`robust_moments`). In a class too small for 100 dimensions the largest k is half of the rows
    that the covariance is sure to have. Where no direction of the whitened rows varies by more than 1, all weigh alike.

    Args:
        bound: At most how many rows of one class are poisons; null for what the run tells all filters.
        factor: How many rows go for each poison that the bound allows; the paper's is 1.5.
        alpha: How much the directions that vary most outweigh others; the paper's is 4.

    Raises:
        InputError: If a value is out of range.
    """

    name = "spectre"
    label = "SPECTRE"
    color = "#a0522d"

    def __init__(self, bound: int | None = None, factor: float = 1.5, alpha: float = 4.0) -> None:
        super().__init__(bound, factor)
        self.given = {"bound": bound, "factor": factor, "alpha": alpha}
        if not 0 <= alpha <= 100:
            raise InputError(f"alpha is {alpha:g}: it is between 0 and 100 (--arms.{self.name}.alpha)")
        self.alpha = alpha

    def check_set(self, labels: Tensor, bound: int | None) -> None:
        """See :meth:`Filter.check_set`."""
        super().check_set(labels, bound)
        most = 2 * self.most_poisons(bound)
        for label, size in zip(*labels.unique(return_counts=True), strict=True):
            if size < most + 2:
                raise InputError(
                    f"{self.name} estimates a covariance without up to {most} rows of each class, and class {int(label)} has "
                    f"{int(size)}: at least 2 must be left, tell it of fewer poisons (--arms.{self.name}.bound, --poisons_told)"
                )

    def scores(self, received: Received, workshop: Workshop) -> Tensor:
        """See :meth:`DropHighest.scores`."""
        features, most = workshop.features(), self.most_poisons(received.bound)
        scores = torch.zeros(len(received), dtype=torch.float64)
        for rows in rows_by_class(received.labels):
            scores[rows] = robust_scores(features[rows], most, self.alpha)
        return scores


def robust_scores(features: Tensor, bound: int, alpha: float = 4.0) -> Tensor:
    """QUE scores of one class's rows in the number of dimensions in which they stand out most.

    Args:
        features: ``(n, F)`` float; n is above ``2 bound + 1``.
        bound: At most how many rows are poisons.
        alpha: How much the directions that vary most outweigh others.

    Returns:
        ``(n,)`` float64; all 0 where all rows are the same.
    """
    centred = features.double() - features.double().mean(0)
    _, spread, directions = torch.linalg.svd(centred, full_matrices=False)
    rank = int((spread.square() > _RANK * spread.square().max()).sum())
    most = min(_DIMENSIONS[-1], rank, (len(features) - 2 * bound) // 2)
    best, scores = -float("inf"), torch.zeros(len(features), dtype=torch.float64)
    for size in dict.fromkeys(min(size, most) for size in _DIMENSIONS if most):
        reduced = centred @ directions[:size].T
        mean, covariance = robust_moments(reduced, 2 * bound)
        found, outstanding = entropy_scores((reduced - mean) @ _inverse_root(covariance), alpha)
        if outstanding > best:
            best, scores = outstanding, found
    return scores


def entropy_scores(whitened: Tensor, alpha: float) -> tuple[Tensor, float]:
    """QUE scores (Dong, Hopkins, Li, NeurIPS 2019).

    Args:
        whitened: ``(n, k)`` float64; clean rows have mean 0 and covariance I.
        alpha: How much the directions that vary most outweigh others.

    Returns:
        Scores ``(n,)`` float64, and the variance of all rows under their weights.
    """
    variances, axes = torch.linalg.eigh(torch.cov(whitened.T, correction=0).reshape(whitened.shape[1], -1))
    excess = float(variances[-1]) - 1
    # The largest exponent is alpha, that of a direction that varies less than it should is far below 0.
    weights = torch.ones_like(variances) if excess < _LEAST_EXCESS else (alpha * (variances - 1) / excess).exp()
    weights /= weights.sum()
    return (whitened @ axes).square() @ weights, float(variances @ weights)


def robust_moments(rows: Tensor, allowance: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of rows without those that make them vary as no Gaussian does.

    The covariance filter of Diakonikolas et al., "Being Robust (in High Dimensions) Can Be Practical", ICML 2017: among
    quadratic forms ``y' V y`` of rows y whitened by what is kept so far, with V of norm 1, find the one that varies most.
    Gaussian rows have a variance of 2 in each, and about ``2 (1 + sqrt(D / n))^2`` in the one that varies most of n rows, with
    ``D = k (k + 1) / 2``. Above that the rows go whose form is furthest from its median. The paper drops those beyond a
    threshold from its proof; here an eighth of the allowance goes at a time.

    Args:
        rows: ``(n, k)`` float64.
        allowance: How many rows may be left out at most, fewer than n - 1.

    Returns:
        Mean ``(k,)`` and covariance ``(k, k)`` float64 of the rows that are kept.
    """
    kept, size = rows, rows.shape[1]
    left, portion = allowance, -(-allowance // _ROUNDS)
    while True:
        mean = kept.mean(0)
        covariance = (kept - mean).T @ (kept - mean) / len(kept)
        if not left:
            return mean, covariance
        forms, variance = _most_varying_forms((kept - mean) @ _inverse_root(covariance))
        if variance <= 2 * (1 + (size * (size + 1) / 2 / len(kept)) ** 0.5) ** 2:
            return mean, covariance
        count = min(portion, left)
        order = (forms - forms.median()).abs().argsort(stable=True)
        kept, left = kept[order[: len(order) - count].sort().values], left - count


def _most_varying_forms(whitened: Tensor) -> tuple[Tensor, float]:
    """Values ``(n,)`` of the quadratic form of norm 1 that varies most over rows ``(n, k)``, and their variance."""
    first = whitened[whitened.square().sum(1).argmax()]
    form = torch.outer(first, first)
    for _ in range(_STEPS):
        values = ((whitened @ form) * whitened).sum(1)
        form = whitened.T @ (whitened * (values - values.mean())[:, None]) / len(whitened)
        size = form.norm()
        if size == 0:
            break
        form = form / size
    values = ((whitened @ form) * whitened).sum(1)
    return values, float(values.var(correction=0))


def _inverse_root(covariance: Tensor) -> Tensor:
    """The symmetric inverse square root ``(k, k)``; a direction without variance counts as if it had the least that is any."""
    variances, axes = torch.linalg.eigh(covariance)
    least = _RANK * variances[-1].clamp_min(torch.finfo(torch.float64).tiny / _RANK)
    root: Tensor = (axes * variances.clamp_min(float(least)).rsqrt()) @ axes.T
    return root
