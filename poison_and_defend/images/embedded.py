"""Images that come with the package."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.hashing import checksum_file
from poison_and_defend.core.reading.arrays import read_npz

EMBEDDED = Path(__file__).resolve().parents[1] / "embedded"
"""Folder of these files, with their licences."""

CHECKSUMS: Mapping[str, str] = {"fashion_mnist.npz": "8797d42a7c6b09761a64264c2f16fd8c"}
"""What each file must be: another one's results would be put down to these images."""


def read_embedded(file: str, arrays: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Arrays of one of the files.

    Raises:
        InputError: If it is not there, or not the one that came with the package.
    """
    path = EMBEDDED / file
    if not path.is_file() or checksum_file(path) != CHECKSUMS[file]:
        raise InputError(f"{path} is not the file that came with this package: install it again (--data)")
    return read_npz(path, "no .npz of images", "--data", names=arrays)
