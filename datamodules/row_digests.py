"""Which images a model was trained on, in eight bytes each: how a certificate tells trusted models from others."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from errors import InputError
from files import save_array

TRAINING_ROWS = "training_rows.npy"
"""File in a denoiser's folder: the digests of its training images."""

Digests = NDArray[np.uint64]
_CHUNK = 1024


def row_digests(images: Tensor) -> Digests:
    """``(N,)`` uint64, equal for equal images ``(N, C, H, W)`` uint8; two that differ agree with chance below 2^-56.

    A sum of the bytes weighted by random 64-bit numbers, modulo 2^64: a single pass without a loop over images.
    """
    flat = images.flatten(1).numpy()
    weights = _weights(flat.shape[1])
    parts = [flat[i : i + _CHUNK].astype(np.uint64) @ weights for i in range(0, len(flat), _CHUNK)]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


@cache
def _weights(count: int) -> Digests:
    return np.random.default_rng(0x5EED).integers(0, 2**64, count, np.uint64)


def write_training_rows(folder: Path, images: Tensor) -> None:
    """Record the images that a model in ``folder`` was trained on."""
    save_array(folder / TRAINING_ROWS, row_digests(images))


def read_training_rows(folder: Path) -> Digests | None:
    """What :func:`write_training_rows` recorded, or None where nothing is recorded.

    Raises:
        InputError: If the record is damaged.
    """
    path = folder / TRAINING_ROWS
    if not path.is_file():
        return None
    try:
        found = np.load(path, allow_pickle=False)
        if found.dtype != np.uint64 or found.ndim != 1:
            raise ValueError(f"{found.dtype} {found.shape}")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is not a record of training images: {error} (--denoiser)") from error
    return np.asarray(found, np.uint64)


def shared_rows(first: Digests, second: Digests) -> int:
    """How many entries of ``second`` are also in ``first``."""
    return int(np.isin(second, first).sum())
