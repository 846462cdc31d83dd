"""Names of images on disk, read one by one: millions of them must not lie in every process's memory."""

import array
from collections.abc import Iterable
from pathlib import Path
from typing import overload

import numpy as np

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.arrays import read_array
from poison_and_defend.core.reading.files import guarded, open_regular

_WHAT, _OPTION = "no list of names; remove the set in the making and begin again", "--out"


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
    """What :func:`write_names` left, memory-mapped.

    Raises:
        InputError: If it is damaged, then or when a name is asked for.
        FileNotFoundError: If it is not there, which is so once others have finished.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.txt"
        self._ends = read_array(folder / f"{name}.npy", _WHAT, _OPTION, dtype=np.int64, shape=(None,), absent=True)
        with guarded(self._path, _WHAT, _OPTION, absent=True), open(open_regular(self._path), "rb"):
            size = self._path.stat().st_size
            if not len(self._ends) or self._ends[0] != 0 or self._ends[-1] != size or (np.diff(self._ends) < 1).any():
                raise ValueError("where its names end is not where they are said to")
            self._text = np.memmap(self._path, np.uint8, "r") if size else np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        try:
            name = bytes(self._text[self._ends[place] : self._ends[place + 1] - 1]).decode()
            if is_below(name):
                return name
        except UnicodeDecodeError:
            pass
        raise InputError(f"{self._path} is damaged or {_WHAT} ({_OPTION})")


def is_below(name: str) -> bool:
    """Whether a path, or none, stays in the folder that it is relative to."""
    return name == "" or not ("\0" in name or name[0] == "/" or "//" in name or not _DOTS.isdisjoint(name.split("/")))


_DOTS = {".", ".."}
