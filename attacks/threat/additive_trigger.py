"""A pattern over the whole image that a backdoor adds to it, such as one that was found while crafting."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from poison_and_defend.attacks.threat.backdoor_trigger import BackdoorTrigger
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import brief

MAX_SCALE = 255.0
"""One grey level times this is the whole pixel range."""


@dataclass(frozen=True, eq=False)
class AdditiveTrigger(BackdoorTrigger):
    """A signed pattern in whole grey levels: poisons are their bases plus it, tested images carry it ``test_scale``-fold.

    Attributes:
        pattern: ``(C, H, W)`` int16, from -255 to 255, in units of 1/255.
        test_scale: What it is multiplied by on tested images, above 0 and at most 255; the product is rounded to whole
            levels, and the sum clipped to [0, 255].

    Raises:
        InputError: If the pattern is none of that dtype, shape and range, or the scale is out of range.
    """

    pattern: Tensor
    test_scale: float = 1.0

    def __post_init__(self) -> None:
        shape = tuple(self.pattern.shape)
        if self.pattern.dtype != torch.int16 or len(shape) != 3 or 0 in shape:
            raise InputError(f"the trigger's pattern is {self.pattern.dtype} of shape {shape}, not int16 (C, H, W)")
        largest = int(self.pattern.to(torch.int64).abs().max())
        if largest > 255:
            raise InputError(f"the trigger's pattern changes a pixel by {largest} levels: at most 255")
        if type(self.test_scale) not in (int, float):
            raise InputError(f"the trigger's test_scale is {brief(self.test_scale)}: it is a number")
        if not (math.isfinite(self.test_scale) and 0 < self.test_scale <= MAX_SCALE):
            raise InputError(f"the trigger's test_scale is {self.test_scale:g}: it is above 0 and at most {MAX_SCALE:g}")

    def check_fits(self, shape: tuple[int, ...]) -> None:
        """See :meth:`BackdoorTrigger.check_fits`."""
        if tuple(self.pattern.shape) != tuple(shape):
            raise InputError(
                f"a trigger that adds {tuple(self.pattern.shape)} values does not fit onto images of shape {tuple(shape)}"
            )

    def poison(self, images: Tensor) -> Tensor:
        """Images ``(..., C, H, W)`` uint8 plus the pattern as it is, clipped: what training images carry."""
        return (images.to(torch.int16) + self.pattern.to(images.device)).clamp(0, 255).to(torch.uint8)

    def stamp(self, images: Tensor, keys: Tensor) -> Tensor:
        """See :meth:`BackdoorTrigger.stamp`; all images get the same."""
        del keys
        # In double precision: 0.1 x 5 in single is a half that rounds the other way.
        added = (self.pattern.double() * self.test_scale).round().to(images.device)
        if images.dtype == torch.uint8:
            return (images + added).clamp(0, 255).to(torch.uint8)
        return (images + (added / 255).to(images.dtype)).clamp(0, 1)

    def settings(self) -> dict[str, Any]:
        """See :meth:`BackdoorTrigger.settings`."""
        return {"kind": "additive", "test_scale": float(self.test_scale)}
