"""A patch that a backdoor attack stamps on an image, and where it goes."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from poison_and_defend.attacks.threat.backdoor_trigger import BackdoorTrigger
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import brief

Placement = Literal["random", "bottom_right", "four_corners", "fixed"]


@dataclass(frozen=True, eq=False)
class Trigger(BackdoorTrigger):
    """A patch and where it goes.

    Attributes:
        pattern: ``(C, P, P)`` uint8.
        placement: ``random`` (a place of its own for every image), ``bottom_right``, ``four_corners`` (the left ones
            mirrored, so that a horizontal flip keeps them), or ``fixed`` at ``place``.
        margin: Pixels between the patch and the border; for ``bottom_right``.
        amplitude: 1 overwrites pixels; below 1 white adds and black subtracts that much, clipped to [0, 1].
        seed: Seeds random places.
        place: Top and left pixel of a ``fixed`` patch.

    Raises:
        InputError: If the pattern is no square patch of bytes, or a number is out of range.
    """

    pattern: Tensor
    placement: Placement
    margin: int = 0
    amplitude: float = 1.0
    seed: int = 0
    place: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        shape = tuple(self.pattern.shape)
        if self.pattern.dtype != torch.uint8 or len(shape) != 3 or shape[1] != shape[2] or 0 in shape:
            raise InputError(f"the trigger's pattern is {self.pattern.dtype} of shape {shape}, not uint8 (C, P, P)")
        if self.placement not in get_args(Placement):
            raise InputError(f"the trigger's placement is {brief(self.placement)!r}: it is {', '.join(get_args(Placement))}")
        numbers = {"margin": self.margin, "seed": self.seed, **dict(zip(("top", "left"), self.place, strict=True))}
        for name, number in numbers.items():
            if type(number) is not int or not 0 <= number < 2**63:
                raise InputError(f"the trigger's {name} is {brief(number)}: it is a whole number of at least 0")
        if not 0 < self.amplitude <= 1:
            raise InputError(f"the trigger's amplitude is {self.amplitude:g}: it is above 0 and at most 1")

    def check_fits(self, shape: tuple[int, ...]) -> None:
        """Refuse images ``(C, H, W)`` that the patch does not lie within.

        Raises:
            InputError: If it has other channels, or leaves the image.
        """
        channels, height, width = shape
        down, right = self.place if self.placement == "fixed" else (self.margin, self.margin)
        if len(self.pattern) != channels or self.size + down > height or self.size + right > width:
            raise InputError(
                f"a trigger of {len(self.pattern)} channels and {self.size} pixels, {down} and {right} from the border, does "
                f"not fit into images of shape {(channels, height, width)}"
            )

    @property
    def size(self) -> int:
        """P, the side of the patch in pixels."""
        return int(self.pattern.shape[-1])

    def places(self, keys: Tensor, height: int, width: int) -> Tensor:
        """``(N, 2)`` int64: top and left pixel of the patch; a random place depends on the seed and the image's key alone.

        Args:
            keys: ``(N,)`` int64, such as the images' row numbers.
        """
        if self.placement == "fixed":
            return torch.tensor([self.place]).expand(len(keys), 2)
        down, right = height - self.size - self.margin, width - self.size - self.margin
        if self.placement != "random":
            return torch.tensor([[down, right]]).expand(len(keys), 2)
        bits = _mix(keys.numpy().astype(np.uint64) + _mix(np.array([self.seed], np.uint64)))
        rows, columns = bits >> np.uint64(32), bits & np.uint64(0xFFFFFFFF)
        places = np.stack([rows % np.uint64(height - self.size + 1), columns % np.uint64(width - self.size + 1)], axis=1)
        return torch.from_numpy(places.astype(np.int64))

    def stamp(self, images: Tensor, keys: Tensor) -> Tensor:
        """The images with the trigger.

        Args:
            images: ``(N, C, H, W)`` uint8, or float in [0, 1].
            keys: ``(N,)`` int64; see :meth:`places`.

        Returns:
            The same shape and dtype.
        """
        levels = images.float() if images.dtype == torch.uint8 else images * 255
        canvas, mask = self._canvas(keys.cpu(), images.shape[-2], images.shape[-1])
        canvas, mask = canvas.to(levels), mask.to(levels.device)
        shifted = (levels + self.amplitude * (2 * canvas - 255)).clamp(0, 255)
        stamped = torch.where(mask, canvas if self.amplitude == 1 else shifted, levels)
        return stamped.round().to(torch.uint8) if images.dtype == torch.uint8 else stamped / 255

    def mask(self, height: int, width: int) -> Tensor:
        """``(H, W)`` bool: the pixels that a trigger with a fixed place changes."""
        return self._canvas(torch.zeros(1, dtype=torch.int64), height, width)[1][0, 0]

    def _canvas(self, keys: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Patch values ``(N or 1, C, H, W)`` uint8 and where they count ``(N or 1, 1, H, W)`` bool."""
        if self.placement == "four_corners":
            canvas = torch.zeros(1, len(self.pattern), height, width, dtype=torch.uint8)
            mask = torch.zeros(1, 1, height, width, dtype=torch.bool)
            size, mirrored = self.size, self.pattern.flip(-1)
            for rows in (slice(0, size), slice(height - size, height)):
                for columns, pattern in ((slice(0, size), mirrored), (slice(width - size, width), self.pattern)):
                    canvas[0, :, rows, columns] = pattern
                    mask[0, :, rows, columns] = True
            return canvas, mask
        places = self.places(keys, height, width)
        down = torch.arange(height) - places[:, :1]
        right = torch.arange(width) - places[:, 1:]
        inside = ((down >= 0) & (down < self.size))[:, :, None] & ((right >= 0) & (right < self.size))[:, None, :]
        row, column = down.clamp(0, self.size - 1), right.clamp(0, self.size - 1)
        return self.pattern[:, row[:, :, None], column[:, None, :]].transpose(0, 1), inside[:, None]

    def settings(self) -> dict[str, Any]:
        """All but the pattern, as JSON can hold it."""
        return {name: getattr(self, name) for name in ("placement", "margin", "amplitude", "seed", "place")}


def _mix(values: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Splitmix64: well-mixed 64 bits for every 64-bit input, without a generator per image (Steele et al., 2014)."""
    with np.errstate(over="ignore"):
        z = values + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
