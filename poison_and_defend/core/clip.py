"""Clipping for gradients: at the very border they pass, whichever way a version of PyTorch decides there."""

import torch
from torch import Tensor


def clipped(values: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """``values.clamp(low, high)``, whose derivative is 1 within the bounds, these included, and 0 beyond.

    `torch.clamp` has derivative 0 at the bounds themselves from some version on, so that black pixels would never brighten.
    """
    below, above = values.new_tensor(low), values.new_tensor(high)
    return torch.where(values < low, below, torch.where(values > high, above, values))
