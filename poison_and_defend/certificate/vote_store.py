"""Votes on disk: written by any number of ranks and jobs at once, added to later, never lost to a kill."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import save_arrays, write_json
from poison_and_defend.core.processes.leases import Leases
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.reading.arrays import read_npz
from poison_and_defend.core.reading.files import brief, check_fields, guarded, read_json

_MANIFEST = "manifest.json"
_NAME = re.compile(r"votes_(\d{6})_(\d{6})\.npz")
_POLL_SECONDS = 1.0

Votes = NDArray[np.uint16]
Marks = NDArray[np.uint64]


class VoteStore:
    """A folder with ``manifest.json`` and one file per block of models, ``votes_FIRST_STOP.npz``.

    A block holds ``votes`` (models, T) uint16, the class that each model gives each test image, and ``marks`` (models,) uint64,
    a fingerprint of what each was trained on, by which models that share their randomness are found.

    Args:
        folder: Where it lies.
        settings: All that votes depend on but the models' numbers; votes made with others are refused.
        images: T.
        classes: Number of classes.
        seeds: Training seeds of models, which are part of their marks; None where marks have none.
    """

    def __init__(
        self, folder: Path, settings: dict[str, Any], images: int, classes: int, seeds: Callable[[range], Marks] | None = None
    ) -> None:
        self.folder, self.settings, self.images, self.classes = folder, settings, images, classes
        self.seeds = seeds
        self.leases = Leases(folder)

    def create(self) -> None:
        """Create it, or check what is there; any number of processes may do so at once.

        Raises:
            InputError: If the folder holds votes of models with other settings, or a damaged file.
        """
        path, what = self.folder / _MANIFEST, "no list of what votes depend on; remove the folder, or choose another"
        with guarded(self.folder, what, "--name"):
            self.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            if self._blocks():
                raise InputError(f"{self.folder} holds votes but no {_MANIFEST}: remove it or choose another (--name)")
            write_json(path, self.settings)
        with guarded(path, what, "--name"):
            found = check_fields(read_json(path, what, "--name"), {}, path, what, "--name")
        for key in sorted(set(found) | set(self.settings)):
            if found.get(key) != self.settings.get(key):
                raise InputError(
                    f"{self.folder} holds votes of models with {brief(key)} = {brief(found.get(key))}, now it is "
                    f"{self.settings.get(key)}: votes of different models do not add up; choose another (--name)"
                )
        for block in self._blocks():
            self._load(block)

    def _blocks(self) -> list[range]:
        found = [_NAME.fullmatch(path.name) for path in self.folder.iterdir()]
        return sorted((range(int(m[1]), int(m[2])) for m in found if m), key=lambda block: block.start)

    def _path(self, block: range) -> Path:
        return self.folder / f"{_name(block)}.npz"

    def _load(self, block: range) -> tuple[Votes, NDArray[np.uint64]]:
        path = self._path(block)
        what = (
            f"no votes of {len(block)} models on {self.images} images; remove this one file, and its models are trained again"
        )
        shapes = {"votes": (len(block), self.images), "marks": (len(block),)}
        found = read_npz(path, what, "--name", names=shapes, shapes=shapes)
        votes, marks = found["votes"], found["marks"]
        with guarded(path, what, "--name"):
            if votes.dtype != np.uint16 or marks.dtype != np.uint64 or votes.max(initial=0) >= self.classes:
                raise ValueError(f"its votes are {votes.dtype} up to {votes.max(initial=0)}, its marks {marks.dtype}")
        return votes, marks

    def done(self, first: int, stop: int) -> int:
        """How many of the models ``first..stop - 1`` have voted."""
        return stop - first - sum(map(len, self.missing(first, stop, stop - first)))

    def missing(self, first: int, stop: int, size: int) -> list[range]:
        """Blocks that are still to be trained: what is missing, cut at multiples of ``size``."""
        gaps, place = [], first
        for block in [*self._blocks(), range(stop, stop)]:
            while place < min(block.start, stop):
                end = min(block.start, stop, (place // size + 1) * size)
                gaps.append(range(place, end))
                place = end
            place = max(place, block.stop)
        return gaps

    def add(self, block: range, votes: Votes, marks: NDArray[np.uint64]) -> None:
        """Keep a block's votes, all at once."""
        save_arrays(self._path(block), {"votes": votes, "marks": marks})

    def read(self, first: int, stop: int) -> Votes:
        """``(stop - first, T)`` votes in the order of the models.

        Raises:
            InputError: If a file is damaged, a model is missing, or two models were trained on the same draw.
        """
        votes, marks, place = [], [], first
        for block in self._blocks():
            # Jobs that asked for different numbers of models may have overlapped.
            own = range(max(block.start, place), min(block.stop, stop))
            if len(own) == 0 or own.start > place:
                continue
            found, own_marks = self._load(block)
            part = slice(own.start - block.start, own.stop - block.start)
            votes.append(found[part])
            marks.append(own_marks[part])
            place = own.stop
        if place != stop:
            raise InputError(f"{self.folder} lacks votes of models {place} to {stop - 1}: give the command again (--models)")
        every = np.concatenate(marks)
        # Without their seeds, marks are of what models saw.
        seen = every if self.seeds is None else every ^ self.seeds(range(first, stop))
        for what, marked in (("noise and seed", every), ("noise", seen)):
            if len(np.unique(marked)) < len(marked):
                raise InputError(f"{self.folder} holds models that share their {what}: their votes do not count twice (--name)")
        return np.concatenate(votes)


def _name(block: range) -> str:
    return f"votes_{block.start:06}_{block.stop:06}"


def fill(
    store: VoteStore,
    first: int,
    stop: int,
    size: int,
    train: Callable[[range], tuple[Votes, NDArray[np.uint64]]],
    ranks: Ranks,
    progress: Callable[[int, int], None],
) -> None:
    """Train what is missing of the models ``first..stop - 1``, together with whatever ranks and jobs do the same.

    Args:
        size: Models per block.
        train: Numbers to votes and marks.
        progress: Called with the models that all have finished, and how many there are.
    """
    while missing := store.missing(first, stop, size):
        progress(store.done(first, stop), stop - first)
        turn = ranks.rank % len(missing)
        # Everyone starts elsewhere, so that claims seldom collide.
        block = next((b for b in missing[turn:] + missing[:turn] if store.leases.claim(_name(b))), None)
        if block is None:
            # Others are at the rest; if one of them dies, its claim lapses.
            time.sleep(_POLL_SECONDS)
            continue
        try:
            # It may have been finished between the list and the claim.
            if block in store.missing(first, stop, size):
                store.add(block, *train(block))
        finally:
            store.leases.release(_name(block))
    progress(stop - first, stop - first)
