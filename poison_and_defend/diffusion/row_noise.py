"""Gaussian noise that depends on (seed, draw, row) alone: not on rank, batch, order or what else is denoised.

Philox4x32-10, a counter-based generator (Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3",
SC 2011), vectorised over rows; then the Box-Muller transform. A generator object per row would need a loop over images.
"""

import math

import torch
from torch import Tensor

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF
_COUNTERS = 1 << 16


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four random 32-bit words per counter.

    Args:
        counter: Four broadcastable int64 tensors that hold values in [0, 2**32).
        key: Two integers in [0, 2**32).

    Returns:
        Four int64 tensors with values in [0, 2**32).
    """
    first, second, third, fourth = counter
    low, high = key
    for _ in range(_ROUNDS):
        # int64 multiplication wraps, which leaves the low 64 bits right; masks take the two halves as unsigned words.
        one, two = first * _MULTIPLIERS[0], third * _MULTIPLIERS[1]
        first, second, third, fourth = (
            ((two >> 32) & _WORD) ^ second ^ low,
            two & _WORD,
            ((one >> 32) & _WORD) ^ fourth ^ high,
            one & _WORD,
        )
        low, high = (low + _WEYL[0]) & _WORD, (high + _WEYL[1]) & _WORD
    return first, second, third, fourth


def row_noise(rows: Tensor, shape: tuple[int, ...], *, seed: int, draw: int | Tensor, step: int = 0) -> Tensor:
    """Standard normal noise for the given rows of a training set.

    Args:
        rows: ``(B,)`` int64, row numbers in the whole set, each in [0, 2**32).
        shape: Shape of one image.
        seed: In [0, 2**64); becomes the generator's key.
        draw: In [0, 2**32); which independent realisation, one for all rows or ``(B,)`` int64, one each.
        step: In [0, 2**32); which of the independent noises of a realisation.

    Returns:
        ``(B, *shape)`` float32 on the device of ``rows``.
    """
    pixels = math.prod(shape)
    blocks = torch.arange(-(-pixels // 4), device=rows.device)
    # Words in between take sixteen times the memory of the noise.
    slices = [_normal(part, rows, seed, draw, step) for part in blocks.split(max(1, _COUNTERS // max(1, len(rows))))]
    return torch.cat(slices, dim=1)[:, :pixels].reshape(len(rows), *shape)


def _normal(blocks: Tensor, rows: Tensor, seed: int, draw: int | Tensor, step: int) -> Tensor:
    """``(B, 4 * len(blocks))`` float32: four numbers from each counter."""
    zero = torch.zeros((), dtype=torch.int64, device=rows.device)
    draws = draw[:, None] if isinstance(draw, Tensor) else zero + draw
    counter = (blocks[None, :], rows[:, None], draws, zero + step)
    words = philox(counter, (seed & _WORD, (seed >> 32) & _WORD))
    # (0, 1): the half keeps the logarithm finite. Double precision, so that 32 bits stay 32 bits.
    uniform = [(word.double() + 0.5) / 2**32 for word in words]
    normal = []
    for radius, angle in (uniform[:2], uniform[2:]):
        length = (-2 * radius.log()).sqrt()
        normal += [length * (2 * math.pi * angle).cos(), length * (2 * math.pi * angle).sin()]
    return torch.stack(normal, dim=-1).flatten(1).float()
