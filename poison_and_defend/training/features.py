"""Frozen networks, and the features that they give images."""

from collections.abc import Callable

import torch
from torch import Tensor

from poison_and_defend.lightning_modules.networks.base import Classifier


def frozen(model: Classifier, device: torch.device) -> Classifier:
    """The model on ``device``, in evaluation mode, without gradients of its own."""
    return model.to(device).eval().requires_grad_(False)


Transform = Callable[[Tensor, Tensor], Tensor]
"""Float images ``(N, C, H, W)`` in [0, 1] and their positions ``(N,)`` to images."""


def unchanged(images: Tensor, rows: Tensor) -> Tensor:
    """Images as they are."""
    return images


@torch.no_grad()
def extract_features(
    model: Classifier,
    images: Tensor,
    device: torch.device,
    batch_size: int | None = None,
    transform: Transform = unchanged,
) -> Tensor:
    """Penultimate features ``(N, F)`` float32 on the CPU, in batches of constant shape.

    Args:
        images: ``(N, C, H, W)`` uint8.
        batch_size: Images at once, by default 256, and 32 of a network in its frozen form on a CPU, whose caches hold no more.
        transform: Applied to float images in [0, 1] and their positions.
    """
    if batch_size is None:
        batch_size = 32 if model.precision is not None and device.type == "cpu" else 256
    parts = []
    for start in range(0, len(images), batch_size):
        rows = torch.arange(start, start + batch_size).clamp_max(len(images) - 1)
        batch = transform(images[rows].to(device).float() / 255, rows)
        parts.append(model.features(batch)[: len(images) - start].cpu())
    return torch.cat(parts)
