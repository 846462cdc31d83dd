"""Random translation and mirroring, differentiable in the images; what victims train with and poisons must survive."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from poison_and_defend.core.bounds import share


@dataclass(frozen=True)
class Augmentation:
    """What an attacker knows of his victims' augmentation: poisons are optimised through one random view each, every step.

    Attributes:
        max_shift: Largest translation as a share of the side; 0 for none.
        flip: Whether half of the views are mirrored.

    Raises:
        InputError: If the shift is no share.
    """

    max_shift: float = 0.0
    flip: bool = False

    def __post_init__(self) -> None:
        share("max_shift", self.max_shift, "--attack.max_shift", of="a share of the image's side")

    def __bool__(self) -> bool:
        return self.max_shift > 0 or self.flip

    def draw(self, count: int, generators: Sequence[torch.Generator]) -> Tensor | None:
        """One random view of each of ``count`` images a setup, ``(S, count, 3)`` float on the CPU; None if nothing is drawn.

        Args:
            generators: One a setup, on the CPU.
        """
        return torch.stack([draw_augmentation((count,), own, flip=self.flip) for own in generators]) if self else None


def draw_augmentation(shape: tuple[int, ...], generator: torch.Generator, *, flip: bool) -> Tensor:
    """Draw the parameters of one random view per image, on the CPU so that every device sees the same.

    Args:
        shape: Leading shape of the images, such as ``(N,)`` or ``(S, k)``.

    Returns:
        ``(*shape, 3)`` float: vertical and horizontal shift in [-1, 1], and 1 or -1 for kept or mirrored.
    """
    shift = torch.rand(*shape, 2, generator=generator) * 2 - 1
    mirror = torch.rand(*shape, 1, generator=generator) < 0.5 if flip else torch.zeros(*shape, 1, dtype=torch.bool)
    return torch.cat([shift, torch.where(mirror, -1.0, 1.0)], dim=-1)


def augment(images: Tensor, views: Tensor, max_shift: float) -> Tensor:
    """Translate by a sub-pixel amount with bilinear sampling and zero fill, and mirror.

    The augmentation of Geiping et al., "Witches' Brew" (ICLR 2021), appendix: on CIFAR-10 images shift by up to 4 of
    32 pixels and are mirrored half the time.

    Args:
        images: ``(N, C, H, W)`` float.
        views: ``(N, 3)`` from :func:`draw_augmentation`.
        max_shift: Largest shift as a share of the image's side, for example 4/32.
    """
    height, width = images.shape[-2:]
    # Pixel centres in [-1, 1]. torch's affine_grid is the same but has no rule for batching under torch.func.
    down = (torch.arange(height, device=images.device) * 2 + 1) / height - 1
    right = (torch.arange(width, device=images.device) * 2 + 1) / width - 1
    shift = views[:, :2] * (2 * max_shift)
    across = views[:, 2, None] * right + shift[:, 1, None]
    along = down + shift[:, 0, None]
    grid = torch.stack([across[:, None, :].expand(-1, height, -1), along[:, :, None].expand(-1, -1, width)], dim=-1).to(
        images.dtype
    )
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
