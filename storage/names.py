"""Names of images on disk, read one by one: millions of them must not lie in every process's memory."""

import array
from collections.abc import Iterable
from pathlib import Path
from typing import overload

import numpy as np


def write_names(folder: Path, name: str, names: Iterable[str]) -> int:
    """Write ``NAME.txt``, names separated by zeros, and ``NAME.npy``, where each begins and the last ends.

    Returns:
        How many there were.
    """
    ends = array.array("q", [0])
    with open(folder / f"{name}.txt", "wb") as file:
        for item in names:
            file.write(item.encode() + b"\0")
            ends.append(file.tell())
    np.save(folder / f"{name}.npy", np.asarray(ends, np.int64), allow_pickle=False)
    return len(ends) - 1


class Names:
    """What :func:`write_names` left, memory-mapped."""

    def __init__(self, folder: Path, name: str) -> None:
        self._ends = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        self._text = np.memmap(folder / f"{name}.txt", np.uint8, "r") if self._ends[-1] else np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        return bytes(self._text[self._ends[place] : self._ends[place + 1] - 1]).decode()
