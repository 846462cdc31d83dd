"""Names for contents."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.core.reading.files import open_regular


def hash_array(array: NDArray[Any]) -> str:
    """SHA-256 of an array's bytes, in blocks, so that a memory map is not copied whole."""
    hasher = hashlib.sha256(str((array.shape, array.dtype.str)).encode())
    for start in range(0, len(array), 4096):
        hasher.update(np.ascontiguousarray(array[start : start + 4096]).tobytes())
    return hasher.hexdigest()


def hash_state(state: Mapping[str, Any], described: str = "") -> str:
    """64 bits of SHA-256 over a network's tensors in the order of their names, as hex.

    Args:
        state: A ``state_dict``.
        described: What else the network depends on.
    """
    hasher = hashlib.sha256(described.encode())
    for name, tensor in sorted(state.items()):
        hasher.update(name.encode())
        held = tensor.detach().cpu().contiguous()
        # numpy has no bfloat16; wider, it is the same number.
        held = held.float() if str(held.dtype) == "torch.bfloat16" else held
        hasher.update(held.numpy().tobytes())
    return hasher.hexdigest()[:16]


def checksum(content: bytes | memoryview) -> str:
    """128 bits of BLAKE2b as hex: what a sanitized set records of every image."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def checksum_file(path: Path) -> str:
    """:func:`checksum` of a file of any size."""
    with open(open_regular(path), "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
