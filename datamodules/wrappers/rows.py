"""Which rows of the training split an experiment's victims train on, and which are left for anybody's features."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules.base import ArrayDataModule, Split
from poison_and_defend.poisons.setup_files import load_setups


def rows_of(setups: Sequence[Setup], count: int) -> np.ndarray:
    """Sorted int64: every row, of ``count``, that a victim of one of the setups trains on."""
    used = np.zeros(count, bool)
    for setup in setups:
        used[setup.rows(count)] = True
    return np.flatnonzero(used)


def used_rows(data: ArrayDataModule, setups: str | None, train_size: int | None, num_setups: int) -> np.ndarray:
    """The rows that setups from a file train on, or all rows where there is no file."""
    train, test = data.split("train").labels.numpy(), data.split("test").labels.numpy()
    if setups is None:
        return np.arange(len(train))
    return rows_of(load_setups(Path(setups), train, test, num_setups=num_setups, train_size=train_size, seed=0), len(train))


def public_split(data: ArrayDataModule, used: np.ndarray) -> Split:
    """The data set's public part or, if it has none, the training rows that are not in ``used``.

    Raises:
        InputError: If neither exists.
    """
    train = data.split("train")
    if len(used) < len(train):
        return train.subset(np.setdiff1d(np.arange(len(train)), used))
    return data.split("public")


def trusted_split(data: ArrayDataModule, used: np.ndarray, count: int, seed: int, option: str) -> Split:
    """Rows that no attacker of the setups can have touched, as many of each class as of any other, drawn by the seed.

    Args:
        used: Rows of the training split that any victim trains on.
        count: How many rows; where classes do not divide it, the first ones get one more.
        option: What asks for them, for who asks too much.

    Raises:
        InputError: If there are not as many of a class, or none at all.
    """
    public = public_split(data, used)
    order = torch.from_numpy(np.random.default_rng(np.random.SeedSequence([seed, len(public)])).permutation(len(public)))
    chosen = []
    for label in range(data.num_classes):
        own = order[public.labels[order] == label]
        wanted = count // data.num_classes + (label < count % data.num_classes)
        if len(own) < wanted:
            raise InputError(
                f"{count} trusted rows are asked for, {wanted} of class {label}, of which {len(own)} are out of the attacker's "
                f"reach: ask for fewer ({option})"
            )
        chosen.append(own[:wanted])
    return public.subset(torch.cat(chosen).numpy())
