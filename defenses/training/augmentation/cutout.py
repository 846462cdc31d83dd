"""Cutout: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", arXiv:1708.04552, 2017.

As a countermeasure to poisons: Borgnia et al., "Strong Data Augmentation Sanitizes Poisoning and Backdoor Attacks Without an
Accuracy Tradeoff", ICASSP 2021.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.training.base import Training
from poison_and_defend.defenses.training.course import Step


class Cutout(Training):
    """Cover a square of every training image, anew in every step.

    The centre is any pixel, so that squares are cut off at the border, as the paper wants it. The paper covers with zeros after
    normalization, which is the mean of the data; images here are as they are, and the square is grey.

    Args:
        side: Side of the square as a share of the image's shorter side; Borgnia et al. and the paper cover 16 of CIFAR-10's 32
            pixels.
        fill: Value of the covered pixels in [0, 1].

    Raises:
        InputError: If a value is out of range.
    """

    name = "cutout"
    color = "#8fc08a"

    def __init__(self, side: float = 0.5, fill: float = 0.5) -> None:
        check_hole(self.name, side, fill)
        self.side, self.fill = float(side), float(fill)

    def check(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        """See :meth:`Defense.check`."""
        check_visible(self.name, self.side, image_shape)

    def inputs(self, step: Step) -> Step:
        """See :meth:`Training.inputs`."""
        return replace(step, inputs=with_holes(step.inputs, self.side, self.fill, step.generators()))


def with_holes(inputs: Tensor, side: float, fill: float, drawn: Sequence[torch.Generator]) -> Tensor:
    """Copies of images ``(m, B, C, H, W)``, each with a square of its own covered; the images themselves stay as they are."""
    height, width = inputs.shape[-2:]
    centres = torch.stack([torch.rand(inputs.shape[1], 2, generator=generator) for generator in drawn])
    length = round(side * min(height, width))
    down, across = (_span(centres[..., place] * count, count, length) for place, count in enumerate((height, width)))
    hole = (down[..., :, None] & across[..., None, :])[:, :, None]
    return inputs.masked_fill(hole.to(inputs.device), fill)


def _span(centres: Tensor, count: int, length: int) -> Tensor:
    """``(..., count)`` bool: the pixels of one direction around each centre."""
    first = centres.long().clamp_max(count - 1)[..., None] - length // 2
    pixels = torch.arange(count)
    return (pixels >= first) & (pixels < first + length)


def check_hole(name: str, side: float, fill: float) -> None:
    """Refuse squares that are none.

    Raises:
        InputError: If a value is out of range.
    """
    if not 0 < side <= 1:
        raise InputError(f"side of {name} is {side:g}: it is a share of the image's side above 0, at most 1 (--*.side)")
    if not 0 <= fill <= 1:
        raise InputError(f"fill of {name} is {fill:g}: it is the value of a pixel in [0, 1] (--*.fill)")


def check_visible(name: str, side: float, image_shape: tuple[int, int, int]) -> None:
    """Refuse squares of less than a pixel.

    Raises:
        InputError: If they are.
    """
    shorter = min(image_shape[1:])
    if round(side * shorter) < 1:
        raise InputError(f"side of {name} is {side:g}: of {shorter} pixels it covers none (--*.side)")
