"""Several rewriters one after the other, as one."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from poison_and_defend.defenses.rewriters.base import Rewriter
from poison_and_defend.defenses.rewriters.gaussian import GaussianRewriter

_STREAM = 0x9E3779B97F4A7C15


class InOrder(Rewriter):
    """What the first makes of a row is what the second is given.

    Args:
        rewriters: In order. The noise of each but the first has a seed of its own, made of the one that it was given: the same
            noise twice would be no more than one of twice the size.
    """

    name = "in_order"

    def __init__(self, rewriters: Sequence[Rewriter]) -> None:
        self.rewriters = [_apart(rewriter, place) for place, rewriter in enumerate(rewriters)]
        self.sigma = max(rewriter.sigma for rewriter in rewriters)
        self.draws = max(rewriter.draws for rewriter in rewriters)

    def version(self, number: int) -> "InOrder":
        """See :meth:`Rewriter.version`."""
        other = copy.copy(self)
        other.rewriters = [rewriter.version(number) for rewriter in self.rewriters]
        other.draws = 1
        return other

    def settings(self) -> dict[str, Any]:
        """Those of all, in order."""
        return {"steps": [rewriter.settings() for rewriter in self.rewriters]}

    def settings_for(self, image_shape: tuple[int, ...]) -> dict[str, Any]:
        """See :meth:`Rewriter.settings_for`."""
        return {"steps": [rewriter.settings_for(image_shape) for rewriter in self.rewriters]}

    def noise_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """See :meth:`Rewriter.noise_shape`: the numbers of all, one after another."""
        return (sum(math.prod(rewriter.noise_shape(image_shape)) for rewriter in self.rewriters),)

    def own_noise(self, keys: Tensor, image_shape: tuple[int, ...]) -> Tensor:
        """See :meth:`Rewriter.own_noise`."""
        return torch.cat([rewriter.own_noise(keys, image_shape).flatten(1) for rewriter in self.rewriters], dim=1)

    def relaxed(self, images: Tensor, noise: Tensor) -> Tensor:
        """See :meth:`Rewriter.relaxed`."""
        shapes = [rewriter.noise_shape(tuple(images.shape[1:])) for rewriter in self.rewriters]
        for rewriter, shape, own in zip(self.rewriters, shapes, noise.split([*map(math.prod, shapes)], dim=1), strict=True):
            images = rewriter.relaxed(images, own.unflatten(1, shape))
        return images

    def __call__(self, images: Tensor, keys: Tensor, draws: Tensor | None = None) -> Tensor:
        """See :meth:`Rewriter.__call__`."""
        for rewriter in self.rewriters:
            images = rewriter(images, keys, draws)
        return images


def in_order(rewriters: Sequence[Rewriter]) -> Rewriter | None:
    """One rewriter for several; the only one as it is, None for none."""
    if len(rewriters) < 2:
        return rewriters[0] if rewriters else None
    return InOrder(rewriters)


def _apart(rewriter: Rewriter, place: int) -> Rewriter:
    if place == 0 or not isinstance(rewriter, GaussianRewriter) or rewriter.seed is None:
        return rewriter
    return rewriter.with_seed((rewriter.seed + place * _STREAM) % 2**63)
