"""Whether the files that a set was made from are still what they were: sizes and times first, contents where these differ."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import beside, save_array
from poison_and_defend.core.hashing import checksum
from poison_and_defend.core.reading.arrays import read_array
from poison_and_defend.core.reading.files import plain
from poison_and_defend.storage.folder_source import FolderSource
from poison_and_defend.storage.records import RowRecord

Stats = NDArray[np.int64]
_CHUNK = 256


def stat_names(root: Path, names: Iterable[str]) -> Stats:
    """``(N, 2)`` int64: bytes and time of change, in nanoseconds, of every file; -1 where there is none."""
    found: list[tuple[int, int]] = []
    for name in names:
        try:
            status = os.stat(f"{root}/{name}")  # noqa: PTH116 - a Path costs ten times a string
            found.append((status.st_size, status.st_mtime_ns))
        except OSError:
            found.append((-1, -1))
    return np.array(found, np.int64).reshape(-1, 2)


def keep_stats(place: Path, stats: Stats) -> None:
    """Keep them beside the output: a set of the same images has the same bytes whenever the files were copied."""
    save_array(_path(place), stats)


def kept_stats(place: Path, count: int) -> Stats | None:
    """What :func:`keep_stats` kept; None if there is none for so many images, and all contents must be compared."""
    try:
        return read_array(_path(place), "no list of sizes and times", "--out", dtype=np.int64, shape=(count, 2))
    except InputError:
        return None


def _path(place: Path) -> Path:
    return beside(place, "inputs.npy")


def refuse_changed(
    source: FolderSource,
    place: Path,
    now: Stats,
    kept: Stats | None,
    records: Iterable[RowRecord],
    progress: Callable[[int, int], None],
    option: str,
) -> None:
    """Compare the files of rows that are done with what was read of them.

    Args:
        source: The files.
        place: The output, for the sentence.
        now: Their sizes and times.
        kept: Those when the set was begun; None to compare all contents.
        records: The rows that are done.
        progress: Called with the files compared, and how many there are.
        option: What the user should change.

    Raises:
        InputError: If one has other contents, naming the first.
    """
    same = np.zeros(len(now), bool) if kept is None else (now == kept).all(1)
    suspects = iter([record for record in records if not same[record.row]])
    total, done, changed = int((~same).sum()), 0, list[str]()

    def differs(record: RowRecord) -> bool:
        try:
            return checksum(source.content(record.file)) != record.source
        except OSError:
            # It could not be read then either, or has gone.
            return bool(record.source)

    with ThreadPoolExecutor(8) as pool:
        for part in _chunks(suspects):
            changed += [record.file for record, other in zip(part, pool.map(differs, part), strict=True) if other]
            done += len(part)
            progress(done, max(done, total))
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise InputError(
            f"{plain(source.root / changed[0])}{more} changed since {place} was made from it: put it back, choose another "
            f"output, or remove this one and begin again ({option})"
        )


def _chunks(records: Iterator[RowRecord]) -> Iterator[list[RowRecord]]:
    while part := list(islice(records, _CHUNK)):
        yield part
