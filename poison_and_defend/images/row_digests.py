"""Which images a model was trained on, in eight bytes each: how a certificate tells trusted models from others."""

import os
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from poison_and_defend.core.files import save_array
from poison_and_defend.core.reading.arrays import read_array

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


def write_training_rows(folder: Path, images: Tensor, earlier: Digests | None = None) -> None:
    """Record the images that a model in ``folder`` was trained on.

    Args:
        earlier: Digests of what it had seen before.
    """
    own = row_digests(images)
    save_array(folder / TRAINING_ROWS, own if earlier is None else np.union1d(earlier, own))


def read_training_rows(folder: Path) -> Digests | None:
    """What :func:`write_training_rows` recorded, or None where nothing is recorded.

    Raises:
        InputError: If the record is damaged, or something else is in its place.
    """
    path = folder / TRAINING_ROWS
    # Not whether it is a file: nothing recorded and something that cannot be read are two things.
    if not os.path.lexists(path):
        return None
    return np.asarray(read_array(path, "no record of training images", "--denoiser", dtype=np.uint64, shape=[None]))


def shared_rows(first: Digests, second: Digests) -> int:
    """How many entries of ``second`` are also in ``first``."""
    return int(np.isin(second, first).sum())
