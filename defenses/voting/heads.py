"""Linear heads in closed form, all parts at once, from the likeness of images alone."""

from dataclasses import dataclass

import torch
from torch import Tensor

_RIDGE = 1.0
_NUMBERS = 2**27
"""Numbers that are in memory at once while heads are solved for."""


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """``(N, classes)`` float32, less the mean: what heads are fitted to."""
    return torch.nn.functional.one_hot(labels, classes).float() - 1 / classes


@dataclass(frozen=True, eq=False)
class Heads:
    """One ridge regression on one-hot labels a part, in its dual form.

    Attributes:
        rows: ``(models, m)`` int64, the received rows that each sees.
        own: ``(models, m, C)`` weights of these.
        common: ``(models, t, C)`` weights of the trusted rows that all see; None without.
    """

    rows: Tensor
    own: Tensor
    common: Tensor | None

    @classmethod
    def fit(
        cls, places: Tensor, labels: Tensor, rows: Tensor, classes: int, trusted: tuple[Tensor, Tensor] | None = None
    ) -> "Heads":
        """Solve for every part.

        Args:
            places: ``(n, F)`` unit vectors of the received rows.
            labels: ``(n,)``.
            rows: ``(models, m)``.
            trusted: Unit vectors ``(t, F)`` and labels ``(t,)`` of rows that every head sees besides.
        """
        extra = 0 if trusted is None else len(trusted[1])
        size = rows.shape[1] + extra
        found = []
        for own in rows.split(max(1, _NUMBERS // (size * max(size, places.shape[1])))):
            seen, wanted = places[own], one_hot(labels[own], classes)
            if trusted is not None:
                seen = torch.cat([seen, trusted[0].expand(len(own), -1, -1)], 1)
                wanted = torch.cat([wanted, one_hot(trusted[1], classes).expand(len(own), -1, -1)], 1)
            gram = seen @ seen.mT + _RIDGE * torch.eye(size)
            found.append(torch.cholesky_solve(wanted, torch.linalg.cholesky(gram)))
        weights = torch.cat(found)
        m = rows.shape[1]
        return cls(rows, weights[:, :m].contiguous(), weights[:, m:].contiguous() if extra else None)

    def scores(self, likeness: Tensor, trusted: Tensor | None) -> Tensor:
        """Scores ``(models, B, C)`` of test images.

        Args:
            likeness: ``(B, n)`` cosines with the received rows.
            trusted: ``(B, t)`` with the trusted ones.
        """
        models, m = self.rows.shape
        seen = likeness[:, self.rows.flatten()].view(len(likeness), models, m).transpose(0, 1)
        found = torch.bmm(seen, self.own)
        if self.common is None or trusted is None:
            return found
        return found + torch.einsum("bt,mtc->mbc", trusted, self.common)


def trusted_head(places: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Weights ``(t, C)`` of one head on trusted rows alone; times likeness ``(B, t)`` they are its scores.

    Args:
        places: ``(t, F)`` unit vectors.
        labels: ``(t,)``.
    """
    gram = places @ places.T + _RIDGE * torch.eye(len(places))
    return torch.cholesky_solve(one_hot(labels, classes), torch.linalg.cholesky(gram))
