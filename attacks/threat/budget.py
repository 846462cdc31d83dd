"""How far a poison may be from its base image: a norm and a radius, in units of [0, 1] pixels."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.lengths import parse_length

Norm = Literal["linf", "l2"]

# 8/255 * 255 is 8.000000000000002 in one order of operations and 7.999999999999999 in another; a millionth of
# a grey level separates "equal" from "above" without ever admitting a whole level more.
_LEVEL_SLACK = 1e-6


def parse_eps(eps: float | str) -> float:
    """Read a radius written as a number or as a fraction such as ``8/255``.

    Raises:
        InputError: If it is neither.
    """
    value = parse_length(eps)
    if isinstance(eps, str) and math.isnan(value):
        raise InputError(f"eps is {eps[:80]!r}: write a number such as 0.03 or a fraction such as 8/255 (--attack.eps)")
    return value


@dataclass(frozen=True)
class Budget:
    """The ball of radius ``eps`` around a base image, intersected with the valid pixel range [0, 1].

    Args:
        norm: ``linf`` bounds every pixel, ``l2`` the Euclidean norm over all pixels of one image.
        eps: Radius in [0, 1] pixel units; for ``l2`` it may be as large as the diameter of the image space,
            which :meth:`check_shape` enforces once the image size is known.

    Raises:
        InputError: If ``eps`` is not positive, not finite or, for ``linf``, above 1; or the norm is unknown.
    """

    norm: Norm
    eps: float

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise InputError(f"norm is {self.norm!r}: it is linf or l2 (--attack.norm)")
        if not (math.isfinite(self.eps) and self.eps > 0):
            raise InputError(f"eps is {self.eps:g}: it must be above 0 and finite (--attack.eps)")
        if self.eps * 255 < 1 - _LEVEL_SLACK:
            raise InputError(f"eps is {self.eps:g}: less than 1/255 changes no pixel of an 8-bit image (--attack.eps)")
        if self.norm == "linf" and self.eps > 1:
            raise InputError(f"eps is {self.eps:g}: an linf budget is at most 1, the whole pixel range (--attack.eps)")

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Refuse an l2 radius that no image of ``shape`` (C, H, W) could exhaust."""
        diameter = math.sqrt(math.prod(shape))
        if self.norm == "l2" and self.eps > diameter:
            raise InputError(
                f"eps is {self.eps:g}: an l2 budget for images of shape {tuple(shape)} is at most {diameter:g} (--attack.eps)"
            )

    def project(self, images: Tensor, bases: Tensor) -> Tensor:
        """Nearest point of the ball to each image, then clipped to [0, 1]; differentiable almost everywhere.

        Clipping moves every pixel towards its base, which lies in [0, 1], so the result stays in the ball.

        Args:
            images: ``(..., C, H, W)`` float.
            bases: ``(..., C, H, W)`` float in [0, 1], one for each image.
        """
        delta = images - bases
        if self.norm == "linf":
            delta = delta.clamp(-self.eps, self.eps)
        else:
            length = delta.flatten(-3).norm(dim=-1)[..., None, None, None]
            delta = delta * (self.eps / length.clamp_min(self.eps))
        return (bases + delta).clamp(0, 1)

    def quantize(self, images: Tensor, bases: Tensor) -> Tensor:
        """Round to 8 bits without leaving the ball.

        linf: round to nearest, then clip to the whole grey levels that the radius admits. l2: round towards the
        base, since rounding to nearest can lengthen the difference.

        Args:
            images: ``(..., C, H, W)`` float in [0, 1].
            bases: ``(..., C, H, W)`` uint8, one for each image.

        Returns:
            uint8 of the same shape, whose :meth:`distance` to ``bases`` is at most ``eps``.
        """
        # In double precision: single rounds a level up where eps is a hair below it.
        levels = self.project(images.double(), bases.double() / 255) * 255 - bases
        return (bases + self._whole(levels)).clamp(0, 255).to(torch.uint8)

    def levels(self, perturbations: Tensor) -> Tensor:
        """Perturbations by themselves in whole grey levels: added to any 8-bit image and clipped, they stay in the ball.

        Args:
            perturbations: ``(..., C, H, W)`` float in [0, 1] pixel units; what is outside the ball is projected to it.

        Returns:
            int16 of the same shape, in units of 1/255.
        """
        own = perturbations.double()
        if self.norm == "l2":
            own = own * (self.eps / own.flatten(-3).norm(dim=-1)[..., None, None, None].clamp_min(self.eps))
        return self._whole(own * 255).clamp(-255, 255).to(torch.int16)

    def _whole(self, levels: Tensor) -> Tensor:
        """Differences in grey levels, of images in the ball, rounded without leaving it."""
        if self.norm == "linf":
            bound = math.floor(self.eps * 255 + _LEVEL_SLACK)
            return levels.round().clamp(-bound, bound)
        # A millionth of a level: a difference of whole levels must survive the round trip through [0, 1].
        return (levels + levels.sign() * _LEVEL_SLACK).trunc()

    def distance(self, images: Tensor, bases: Tensor) -> Tensor:
        """Norm of each image's difference, ``(...)`` float64 in [0, 1] pixel units, from two uint8 tensors."""
        delta = (images.double() - bases.double()).flatten(-3) / 255
        return delta.abs().amax(-1) if self.norm == "linf" else delta.norm(dim=-1)

    def exceeded(self, images: Tensor, bases: Tensor) -> Tensor:
        """Which uint8 images lie outside the ball, ``(...)`` bool."""
        return self.distance(images, bases) > self.eps + _LEVEL_SLACK / 255
