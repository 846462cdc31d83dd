"""The format of MNIST's files: two zeros, the type, the number of dimensions, their sizes, the values; often under gzip."""

import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.core.reading.files import guarded, read_regular

_UNSIGNED_BYTES = 8
_GZIP = 31
_MOST_BYTES = 1 << 26
"""Of a file, uncompressed: the largest has 47 million."""


def read_idx(path: Path, option: str = "--data.root") -> NDArray[np.uint8]:
    """The array in a file of unsigned bytes; one that ends in ``.gz`` is compressed.

    Args:
        path: The file.
        option: What the user should change if it cannot be read.

    Raises:
        InputError: If it cannot be read, is of another format, or holds more or less than it says.
    """
    with guarded(path, "no IDX file of unsigned bytes", option):
        content = read_regular(path, _MOST_BYTES)
        if path.suffix == ".gz":
            inflate = zlib.decompressobj(_GZIP)
            content = inflate.decompress(content, _MOST_BYTES)
            if not inflate.eof or inflate.unused_data:
                raise ValueError("its compressed data ends early, goes on behind its end, or is too large")
        zeros, kind, dimensions = struct.unpack_from(">HBB", content)
        if zeros or kind != _UNSIGNED_BYTES or not 1 <= dimensions <= 4:
            raise ValueError(f"it begins with {content[:4].hex()}")
        shape = struct.unpack_from(f">{dimensions}I", content, 4)
        begin = 4 + 4 * dimensions
        if len(content) - begin != prod(shape):
            raise ValueError(f"it says {prod(shape)} values and has {len(content) - begin}")
        # A copy, which can be written to as any array can.
        return np.frombuffer(content, np.uint8, offset=begin).reshape(shape).copy()
