"""Setups from files: the public benchmark's own pickle, or JSON with its keys."""

import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from poison_and_defend.attacks.threat.setups import Indices, Setup, check_num_poisons, setup_seed
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import guarded, read_json

_WHAT = "no list of setups as the public benchmark writes them"
_MOST_BYTES = 1 << 26  # A thousand setups of ten thousand bases each.


def load_setups(
    path: Path,
    train_labels: Indices,
    test_labels: Indices,
    *,
    num_setups: int,
    train_size: int | None,
    seed: int,
    first_poisons: int | None = None,
) -> list[Setup]:
    """Read the public benchmark's setups, its own pickle or JSON, and rebuild its training sets.

    A training set of ``train_size`` images over K classes holds the first ``train_size / K`` rows of every class in
    dataset order, the bases left out; the base class gives up k of these, and the k bases follow at the end
    (Schwarzschild et al., "Just How Toxic is Data Poisoning?", its evaluator's construction).

    Args:
        path: JSON with ``setups: [{target_class, target_index, base_class, base_indices}]``, or the benchmark's pickle of
            dictionaries with these keys (blanks for underscores).
        train_size: Size of each victim's training set; None keeps the whole training split.
        first_poisons: How many bases of each setup count, from its first on; None for all.

    Raises:
        InputError: If the file is missing or malformed, or an index or a class disagrees with the data.
    """
    at_least("num_setups", num_setups, 1)
    with guarded(path, _WHAT, "--setups"):
        entries = [_Entry.read(entry) for entry in _listed(path)[:num_setups]]
    if first_poisons is not None:
        at_least("first_poisons", first_poisons, 1)
        entries = [entry.first(first_poisons, f"setup {index} of {path}") for index, entry in enumerate(entries)]
    if len(entries) < num_setups:
        raise InputError(f"{path} holds {len(entries)} setups, fewer than the {num_setups} asked for (--num_setups)")
    setups = []
    for index, entry in enumerate(entries):
        for holds, sentence in entry.claims(train_labels, test_labels, len(entries[0].bases), train_size):
            if not holds:
                raise InputError(f"setup {index} of {path}: {sentence} (--setups)")
        check_num_poisons(len(entry.bases), int((train_labels == entry.base_class).sum()), entry.base_class)
        rows = None if train_size is None else _benchmark_rows(train_labels, entry.bases, entry.base_class, train_size)
        target = entry.target_index, entry.target_class
        setups.append(Setup(index, setup_seed(seed, index), *target, entry.base_class, entry.bases, rows))
    return setups


@dataclass(frozen=True, eq=False)
class _Entry:
    """One setup as the benchmark writes it."""

    target_index: int
    target_class: int
    base_class: int
    bases: Indices

    @classmethod
    def read(cls, entry: dict[str, Any]) -> Self:
        bases = np.array([_integer(row) for row in entry["base_indices"]], np.int64)
        return cls(_integer(entry["target_index"]), _integer(entry["target_class"]), _integer(entry["base_class"]), bases)

    def first(self, count: int, name: str) -> Self:
        """With so many of its bases."""
        if count > len(self.bases):
            raise InputError(f"first_poisons is {count}, but {name} has {len(self.bases)} bases (--first_poisons)")
        return replace(self, bases=self.bases[:count])

    def claims(self, train: Indices, test: Indices, k: int, train_size: int | None) -> Iterator[tuple[bool, str]]:
        """What must hold for these labels, each with the sentence that says that it does not; each relies on those before."""
        target, bases = self.target_index, self.bases
        of_class = 0 <= target < len(test) and test[target] == self.target_class
        yield of_class, f"test image {target} is not of class {self.target_class}"
        inside = bases.ndim == 1 and bases.min(initial=0) >= 0 and bases.max(initial=0) < len(train)
        yield inside, f"a base index is outside 0..{len(train) - 1}"
        yield self.target_class != self.base_class, f"target and bases are both of class {self.base_class}"
        yield len(bases) == k, f"it has {len(bases)} bases, setup 0 has {k}"
        yield train_size is not None or len(np.unique(bases)) == len(bases), "it names a base twice, which needs a --train_size"
        yield bool((train[bases] == self.base_class).all()), f"a base image is not of class {self.base_class}"


def _listed(path: Path) -> list[dict[str, Any]]:
    if path.suffix in (".pickle", ".pkl"):
        # Only whoever has the benchmark's own file pays for reading it warily.
        from poison_and_defend.core.reading.pickles import read_pickle

        return [{key.replace(" ", "_"): value for key, value in entry.items()} for entry in read_pickle(path, "--setups")]
    return list(read_json(path, _WHAT, "--setups", _MOST_BYTES)["setups"])


def _integer(value: Any) -> int:
    number = operator.index(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError("an integer has more than 64 bits")
    return number


def _benchmark_rows(labels: Indices, bases: Indices, base_label: int, train_size: int) -> Indices:
    classes = np.unique(labels)
    share, rest = divmod(train_size, len(classes))
    if rest or share <= len(bases):
        raise InputError(
            f"train_size is {train_size}: it must be a multiple of the {len(classes)} classes "
            f"and leave clean images beside {len(bases)} poisons (--train_size)"
        )
    allowed = np.ones(len(labels), bool)
    allowed[bases] = False
    parts = []
    for label in classes:
        rows = np.flatnonzero(allowed & (labels == label))
        wanted = share - len(bases) if label == base_label else share
        if len(rows) < wanted:
            raise InputError(f"class {label} has {len(rows)} images besides the bases, fewer than {wanted} (--train_size)")
        parts.append(rows[:wanted])
    return np.concatenate([*parts, bases]).astype(np.int64)
