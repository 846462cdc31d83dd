"""Triggers that are known before crafting, as a configuration names them."""

import io
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from poison_and_defend.attacks.threat.budget import parse_eps
from poison_and_defend.attacks.threat.patch import Trigger
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import plain, read_regular

_MOST_BYTES = 1 << 26  # Of a trigger's picture.

# Rows from top to bottom, 1 for white: the pattern of Turner, Tsipras, Madry, "Label-Consistent Backdoor Attacks" (2019).
_CORNER = ((0, 0, 1), (0, 1, 0), (1, 0, 1))


class TriggerConfig(ABC):
    """What a trigger is made from once the size of the images is known; one base, so that a configuration names the class."""

    @abstractmethod
    def build(self, image_shape: tuple[int, int, int]) -> Trigger:
        """The trigger for images of shape (C, H, W).

        Raises:
            InputError: If it does not fit, or cannot be made.
        """

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """As JSON can hold it."""


@dataclass(frozen=True)
class PatchTrigger(TriggerConfig):
    """A square patch: a seeded pattern of black, white and saturated pixels, or a picture.

    Args:
        size: Side in pixels.
        placement: ``random``, ``bottom_right`` or ``four_corners``.
        margin: Pixels from the border, for ``bottom_right``.
        seed: Seeds the pattern and random places.
        image: A picture file, resized to ``size``; null for the seeded pattern.
    """

    size: int = 8
    placement: Literal["random", "bottom_right", "four_corners"] = "random"
    margin: int = 0
    seed: int = 0
    image: str | None = None

    def build(self, image_shape: tuple[int, int, int]) -> Trigger:
        """The trigger for images of shape (C, H, W).

        Raises:
            InputError: If it does not fit, or its picture cannot be read.
        """
        channels, height, width = image_shape
        _check_size(self.size, self.margin, height, width, corners=self.placement == "four_corners")
        if self.image is None:
            rng = np.random.default_rng([self.seed, channels])
            pattern = rng.choice(np.array([0, 255], np.uint8), (channels, self.size, self.size))
        else:
            pattern = _picture(Path(self.image), self.size, channels)
        return Trigger(torch.from_numpy(pattern), self.placement, self.margin, seed=self.seed)

    def settings(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


@dataclass(frozen=True)
class CornerTrigger(TriggerConfig):
    """The 3 x 3 pattern of Turner et al. (2019), section 4.3: ``001 / 010 / 101``, 1 for white, at the bottom right.

    Args:
        corners: ``all`` repeats it in the four corners, the left ones mirrored; ``bottom_right`` is one.
        amplitude: 1 overwrites; the paper also adds and subtracts 16, 32 or 64 / 255.
    """

    corners: Literal["all", "bottom_right"] = "all"
    amplitude: float | str = 1.0

    def build(self, image_shape: tuple[int, int, int]) -> Trigger:
        """The trigger for images of shape (C, H, W).

        Raises:
            InputError: If it does not fit, or the amplitude is outside (0, 1].
        """
        channels, height, width = image_shape
        _check_size(3, 0, height, width, corners=self.corners == "all")
        amplitude = parse_eps(self.amplitude)
        if not 0 < amplitude <= 1:
            raise InputError(
                f"amplitude of the trigger is {amplitude:g}: it is above 0 and at most 1 (--attack.trigger.amplitude)"
            )
        pattern = torch.tensor(_CORNER, dtype=torch.uint8).mul(255).expand(channels, 3, 3).contiguous()
        return Trigger(pattern, "four_corners" if self.corners == "all" else "bottom_right", amplitude=amplitude)

    def settings(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"corners": self.corners, "amplitude": parse_eps(self.amplitude)}


def _check_size(size: int, margin: int, height: int, width: int, *, corners: bool) -> None:
    room = min(height, width)
    if size < 1 or margin < 0:
        raise InputError(f"the trigger's size is {size} and its margin {margin}: at least 1 and 0 (--attack.trigger.size)")
    if size + margin > room or (corners and 2 * size > room):
        raise InputError(
            f"a trigger of {size} pixels, {margin} from the border, does not fit into {height} x {width} images "
            "(--attack.trigger.size)"
        )


def _picture(path: Path, size: int, channels: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    try:
        content = read_regular(path, _MOST_BYTES)
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP", "BMP", "GIF")) as picture:
            resized = picture.convert("L" if channels == 1 else "RGB").resize((size, size), Image.Resampling.BILINEAR)
    # Damaged files make Pillow's decoders raise nearly anything.
    except Exception as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise InputError(f"cannot read the trigger {plain(path)}: {reason} (--attack.trigger.image)") from error
    pixels = np.array(resized, np.uint8)  # a copy: what Pillow lends cannot be written to
    return np.ascontiguousarray(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1))
