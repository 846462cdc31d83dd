"""The interface of rewriters."""

from abc import abstractmethod
from typing import Any, Self

import torch
from torch import Tensor

from poison_and_defend.defenses.base import Defense
from poison_and_defend.diffusion.denoiser import Denoiser


class Rewriter(Defense):
    """Rows to rows, each by itself; labels and order are not its business.

    What many sets share is rewritten once, by any number of processes, resumably, and found again by its settings. So a row's
    bytes must depend on the row, its key, the draw and the settings alone, and on no other row of the batch.
    """

    sigma: float = 0.0
    """Standard deviation of the noise that it adds, in [0, 1] pixels; 0 if none."""

    denoiser: Denoiser | None = None
    """The model that it puts images through, whose batches may then be shared by images of different sizes."""

    draws: int = 1
    """How many independent versions of each image victims train on, of which every step takes one at random."""

    def version(self, number: int) -> Self:
        """What makes one of these versions."""
        del number
        return self

    @abstractmethod
    def __call__(self, images: Tensor, keys: Tensor, draws: Tensor | None = None) -> Tensor:
        """Rewrite one batch.

        Args:
            images: ``(B, C, H, W)`` uint8.
            keys: ``(B,)`` int64 on the same device: what randomness is keyed by, the rows' numbers in the whole set.
            draws: ``(B,)`` int64, a realisation of the randomness for each image; None for its own draw.

        Returns:
            ``(B, C, H, W)`` uint8, on the same device.
        """

    def noise_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of the standard normal numbers that it draws for an image ``(C, H, W)``; ``(0,)`` for one that draws none."""
        del image_shape
        return (0,)

    def own_noise(self, keys: Tensor, image_shape: tuple[int, ...]) -> Tensor:
        """The numbers that it draws itself for rows ``(B,)`` int64, ``(B, *noise_shape)``; needs its seed."""
        return torch.zeros(len(keys), *self.noise_shape(image_shape))

    def relaxed(self, images: Tensor, noise: Tensor) -> Tensor:
        """What it makes of images before rounding, with a gradient: how an attacker looks through it.

        Here for what has no gradient of its own: forwards the rewritten images themselves, backwards as if they were those
        given, the straight-through estimator (Athalye, Carlini, Wagner, ICML 2018, section 4.1).

        Args:
            images: ``(B, C, H, W)`` float in [0, 1].
            noise: ``(B, *noise_shape)`` standard normal, whoever drew it.

        Returns:
            ``(B, C, H, W)`` float in [0, 1].
        """
        del noise
        keys = torch.arange(len(images), device=images.device)
        made = self(quantize(images.detach()), keys).to(images) / 255
        return images + (made - images.detach())

    @property
    def needs_secret(self) -> bool:
        """Whether its randomness has no seed yet, so that one that nobody else knows is drawn and kept beside the output."""
        return False

    def with_seed(self, seed: int) -> Self:
        """The same with this seed."""
        return self

    def settings_for(self, image_shape: tuple[int, ...]) -> dict[str, Any]:
        """Settings on which images ``(C, H, W)`` of this shape depend, of others they may not."""
        del image_shape
        return self.settings()


def quantize(images: Tensor) -> Tensor:
    """Float images to uint8, clipped to [0, 1]."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)
