"""What mixup and CutMix draw: which image of its batch each is mixed with, and how much of either there is."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def draw_partners(drawn: Sequence[torch.Generator], labels: Tensor) -> Tensor:
    """``(m, B)`` int64: a random permutation of each member's own batch, whatever the order of the loader."""
    return torch.stack([torch.randperm(labels.shape[1], generator=generator) for generator in drawn]).to(labels.device)


def draw_beta(drawn: Sequence[torch.Generator], alpha: float) -> Tensor:
    """``(m,)`` float64 from Beta(alpha, alpha), one for each member."""
    # torch draws from no Beta distribution with a generator of one's own.
    seeds = [int(torch.randint(2**62, (), generator=generator)) for generator in drawn]
    return torch.tensor([np.random.default_rng(seed).beta(alpha, alpha) for seed in seeds])
