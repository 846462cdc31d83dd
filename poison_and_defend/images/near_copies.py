"""Images that are others once more: encoded again, resized, lightly changed or mirrored, which no digest of bytes finds."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

_SIDE = 32
_LOW = 8
_HASH_BITS = 10
"""Bits of 63 in which the perceptual hashes of a copy may differ."""

_ALIKE = 0.95
"""Correlation of two small pictures above which one is a copy of the other, in a set of photographs."""

_LUMA = [0.299, 0.587, 0.114]
_SMALL = 16
_BLOCK = 1024
_SAMPLE = 2000
_USUAL = 0.01
"""Share of a set's images that may have such a copy in the set itself; where it is more, copies must be more alike."""

_EXCESS = 3


@dataclass(frozen=True, eq=False)
class NearCopies:
    """Pairs that look alike.

    Attributes:
        rows: Positions in the first set, ``(P,)``, each once.
        others: What each looks like most in the second, ``(P,)``.
        level: Correlation from which pairs are listed.
        expected: How many pairs two sets without a common image would have, by how alike images of the first are.
    """

    rows: NDArray[np.int64]
    others: NDArray[np.int64]
    level: float
    expected: float

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def suspicious(self) -> bool:
        """Whether there are more than chance explains."""
        return len(self) > _EXCESS * self.expected

    def told(self, most: int = 5) -> str:
        """The first pairs in words."""
        shown = ", ".join(f"{row} like {other}" for row, other in zip(self.rows[:most], self.others[:most], strict=True))
        return shown + (", ..." if len(self) > most else "")


def near_copies(first: Tensor, second: Tensor) -> NearCopies:
    """Which images of the first set look like one of the second.

    Both must say so: perceptual hashes, signs of the lowest frequencies, differ in at most 10 of 63 bits, and pictures of
    16 x 16 pixels correlate by 0.95 or more, mirrored or not. An empty picture, of one colour, is like no other. Where images
    of the first set are as alike among themselves, as digits are, they must be more alike than all but a hundredth of those.

    Args:
        first: ``(N, C, H, W)`` uint8.
        second: ``(M, C, H, W)`` uint8, of any other size.
    """
    if not len(first) or not len(second):
        nothing = np.zeros(0, np.int64)
        return NearCopies(nothing, nothing, _ALIKE, 0.0)
    known = _described(second)
    found = [_best(first[start : start + _BLOCK], known) for start in range(0, len(first), _BLOCK)]
    best, others = (torch.cat(column) for column in zip(*found, strict=True))
    level, expected = _level(first, len(second))
    rows = (best >= level).nonzero()[:, 0]
    return NearCopies(rows.numpy(), others[rows].numpy(), level, expected)


def _level(first: Tensor, others: int) -> tuple[float, float]:
    """How alike copies must be, and how many pairs as alike there are by chance."""
    sample = first[:: max(1, len(first) // _SAMPLE)]
    itself = torch.arange(len(first))[:: max(1, len(first) // _SAMPLE)]
    best = _best(sample, _described(first), itself)[0]
    share = float((best >= _ALIKE).float().mean())
    if share <= _USUAL:
        return _ALIKE, 0.0
    return float(best.quantile(1 - _USUAL)), _USUAL * max(len(first), others)


def _best(images: Tensor, known: tuple[Tensor, Tensor], itself: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Correlation ``(B,)`` with the most alike of the known whose hash is near, -1 where there is none, and which it is."""
    best, place = torch.full((len(images),), -1.0), torch.zeros(len(images), dtype=torch.int64)
    for own in (images, images.flip(3)):
        bits, small = _described(own)
        for start in range(0, len(own), _BLOCK):
            rows = slice(start, start + _BLOCK)
            # Equal bits less unequal ones, of 63.
            near = bits[rows] @ known[0].T >= bits.shape[1] - 2 * _HASH_BITS
            if itself is not None:
                near[torch.arange(len(near)), itself[rows]] = False
            values, found = torch.where(near, small[rows] @ known[1].T, -1.0).max(1)
            better = values > best[rows]
            best[rows], place[rows] = torch.where(better, values, best[rows]), torch.where(better, found, place[rows])
    return best, place


def _described(images: Tensor) -> tuple[Tensor, Tensor]:
    """Hash bits as -1 and 1, ``(N, 63)``, and small pictures of mean 0 and norm 1, ``(N, 256)``; zeros for empty ones."""
    parts = []
    for own in images.split(_BLOCK):
        # Luma, which encoders keep best.
        weights = torch.tensor(_LUMA if own.shape[1] == 3 else [1 / own.shape[1]] * own.shape[1]).view(1, -1, 1, 1)
        grey = (own.float() * weights).sum(1, keepdim=True) / 255
        parts.append((_bits(_resized(grey, _SIDE)), _normed(_resized(grey, _SMALL))))
    return torch.cat([bits for bits, _ in parts]), torch.cat([small for _, small in parts])


def _resized(grey: Tensor, side: int) -> Tensor:
    return functional.interpolate(grey, (side, side), mode="bilinear", antialias=True, align_corners=False)


def _bits(grey: Tensor) -> Tensor:
    steps = torch.arange(_SIDE) + 0.5
    cosines = torch.cos(torch.pi / _SIDE * torch.arange(_LOW)[:, None] * steps)
    low = (cosines @ grey[:, 0] @ cosines.T).flatten(1)[:, 1:]
    return torch.where(low > low.median(1, keepdim=True).values, 1.0, -1.0)


def _normed(small: Tensor) -> Tensor:
    flat = small.flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    norm = centred.norm(dim=1, keepdim=True)
    return torch.where(norm > 1e-3, centred / norm.clamp_min(1e-3), torch.zeros_like(centred))
