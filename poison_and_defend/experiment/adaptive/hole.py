"""A defence with a hole that was planted: whoever attacks it well must find it.

Zimmermann, Brendel, Tramer, Carlini, "Increasing Confidence in Adversarial Robustness Evaluations" (NeurIPS 2022) ask the same
of attacks on classifiers: one that misses what is known to be there is too weak to tell of what is not.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from poison_and_defend.defenses.rewriters.base import Rewriter, quantize

COARSE = 2
"""Side of the blocks whose means go by."""


class Hole(Rewriter):
    """A rewriter that lets a coarse image by: means over blocks are those of the image that was given, the rest is rewritten.

    A poison that says what it has to say in blocks arrives whole; one that was made for no defence, pixel by pixel, does not.

    Args:
        rewriter: The defence.
    """

    name = "hole"

    def __init__(self, rewriter: Rewriter) -> None:
        self.rewriter, self.sigma, self.denoiser = rewriter, rewriter.sigma, rewriter.denoiser

    def settings(self) -> dict[str, Any]:
        """Those of the defence, and how large the hole is."""
        return {"defense": self.name, "coarse": COARSE, "of": self.rewriter.settings()}

    def settings_for(self, image_shape: tuple[int, ...]) -> dict[str, Any]:
        """See :meth:`Rewriter.settings_for`."""
        return {"defense": self.name, "coarse": COARSE, "of": self.rewriter.settings_for(image_shape)}

    def noise_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """See :meth:`Rewriter.noise_shape`."""
        return self.rewriter.noise_shape(image_shape)

    def own_noise(self, keys: Tensor, image_shape: tuple[int, ...]) -> Tensor:
        """See :meth:`Rewriter.own_noise`."""
        return self.rewriter.own_noise(keys, image_shape)

    def relaxed(self, images: Tensor, noise: Tensor) -> Tensor:
        """See :meth:`Rewriter.relaxed`."""
        return _let_by(images, self.rewriter.relaxed(images, noise))

    @torch.no_grad()
    def __call__(self, images: Tensor, keys: Tensor, draws: Tensor | None = None) -> Tensor:
        """See :meth:`Rewriter.__call__`."""
        rewritten = self.rewriter(images, keys, draws)
        return quantize(_let_by(images.float() / 255, rewritten.float() / 255))


def _let_by(images: Tensor, rewritten: Tensor) -> Tensor:
    """Float images ``(N, C, H, W)``: coarse as the first, fine as the second; a side that is no multiple has smaller blocks."""
    missing = functional.avg_pool2d(images - rewritten, COARSE, ceil_mode=True)
    height, width = images.shape[2:]
    blocks = missing.repeat_interleave(COARSE, 2).repeat_interleave(COARSE, 3)
    return (rewritten + blocks[..., :height, :width]).clamp(0, 1)
