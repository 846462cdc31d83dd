"""Where the randomness of training comes from: a seed, an epoch or a step, and nothing else."""

import torch


def epoch_order(count: int, seed: int, epoch: int) -> torch.Tensor:
    """``(count,)`` int64: the order of training rows in an epoch, as torch's DistributedSampler draws it on one rank."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed + epoch))


def step_generator(seed: int, step: int, stream: int = 0) -> torch.Generator:
    """Generator of one step, counted from the start of training; stream 0 is the augmentation's, 1 a training recipe's."""
    # 2**31, not more: torch's CPU generator looks at the seed's lowest 32 bits alone.
    return torch.Generator().manual_seed((seed * 1_000_003 + step + stream * 2**31) % 2**63)
