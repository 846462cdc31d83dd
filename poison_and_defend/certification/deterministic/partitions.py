"""Votes of models that each see a part of the rows.

Levine and Feizi, "Deep Partition Aggregation" (ICLR 2021); Wang, Levine, Feizi, "Improved Certified Defenses against Data
Poisoning with (Deterministic) Finite Aggregation" (ICML 2022). Both split by a hash of the image; where rows are changed and
never inserted, a split by keyed row number lets a poison touch one part, where that by contents lets it touch two.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from poison_and_defend.core.errors import InputError

_IMAGES = 256
"""Test images that are counted at once: memory for damages by part, image and class."""


def partition_poisons(votes: ArrayLike, touched: int = 1) -> NDArray[np.int64]:
    """How many rows may change as they like without changing the answer, of one deterministic model on each part.

    Condition: parts are disjoint, and which rows are in a part does not depend on the images; every model sees its own part
    and trusted data alone. Ties go to the smaller class.

    Args:
        votes: Of the models, (T, C), C at least 2.
        touched: Parts that one poison touches: 1 where rows are split by keyed number, 2 where by contents.

    Returns:
        For each test image, (T,): half of the winner's lead in votes over its nearest rival, one less where that one wins
        ties; a quarter of it where a poison touches two parts.

    Raises:
        InputError: If these are no votes, or a poison touches nothing.
    """
    counts = check_votes(votes, touched)
    poisons: NDArray[np.int64] = leads(counts).min(1) // (2 * touched)
    return poisons


def check_votes(votes: ArrayLike, touched: int = 1) -> NDArray[np.int64]:
    """Counts ``(T, C)``.

    Raises:
        InputError: If they are none, or a poison touches nothing.
    """
    counts = np.asarray(votes)
    if counts.ndim != 2 or counts.shape[1] < 2 or not (np.issubdtype(counts.dtype, np.integer) or not counts.size):
        raise InputError(
            f"votes have shape {counts.shape} and type {counts.dtype}: whole numbers, (images, classes) are needed"
        )
    if touched < 1:
        raise InputError(f"a poison touches {touched} parts: at least one")
    return counts.astype(np.int64)


def leads(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Votes by which the winner may fall back against each class and still win, (T, C); more than all votes for itself."""
    winners = counts.argmax(1)
    rows, classes = np.arange(len(counts)), np.arange(counts.shape[1])
    # A smaller class wins a tie, so that it needs one vote less.
    found: NDArray[np.int64] = counts[rows, winners][:, None] - counts - (classes < winners[:, None])
    found[rows, winners] = np.iinfo(np.int64).max
    return found


def aggregation_poisons(predictions: ArrayLike, held_by: ArrayLike, classes: int) -> NDArray[np.int64]:
    """The same where parts overlap: each bucket of rows is seen by several models, so that fewer models see more rows each.

    Condition: as :func:`partition_poisons`; rows fall into buckets by keyed number. A changed row may turn all models that
    hold its bucket: one that votes for the winner costs it two votes against a rival, one that votes for that rival none, any
    other one. The attacker takes the dearest buckets first; a model in two of them is counted twice, which is safe.

    Args:
        predictions: Classes that the models answer, (N, T).
        held_by: The d models that see each bucket, (B, d).
        classes: How many there are.

    Returns:
        (T,), from 0 to the number of buckets.

    Raises:
        InputError: If an answer is no class, or a bucket is held by no model.
    """
    answers, holders = np.asarray(predictions, np.int64), np.asarray(held_by, np.int64)
    if answers.ndim != 2 or classes < 2 or not ((answers >= 0) & (answers < classes)).all():
        raise InputError(f"predictions have shape {answers.shape}: classes from 0 to {classes - 1}, (models, images)")
    if holders.ndim != 2 or not holders.size or not ((holders >= 0) & (holders < len(answers))).all():
        raise InputError(f"holders of buckets have shape {holders.shape}: (buckets, models), each one of {len(answers)} models")
    parts = np.array_split(answers, max(1, -(-answers.shape[1] // _IMAGES)), axis=1)
    return np.concatenate([_aggregated(part, holders, classes) for part in parts])


def _aggregated(answers: NDArray[np.int64], holders: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    votes = answers[:, :, None] == np.arange(classes)
    counts = votes.sum(0)
    lead, winners = leads(counts), counts.argmax(1)
    # (N, T, C): what a turned model costs the winner against each rival, 0 to 2.
    costs = (answers == winners)[:, :, None].astype(np.int16) + ~votes
    damage = np.zeros((len(holders), *costs.shape[1:]), np.int16)
    for models in holders.T:
        damage += costs[models]
    # The dearest buckets first, as many of each price as the lead affords: counted, since prices are few.
    withstood = np.zeros_like(lead)
    for price in range(2 * holders.shape[1], 0, -1):
        there = (damage == price).sum(0)
        taken = np.minimum(there, lead // price)
        withstood += taken
        # What is not afforded once is not afforded by the cheaper ones after it: the attacker takes the dear one.
        lead = np.where(taken < there, 0, lead - price * taken)
    free: NDArray[np.int64] = (damage == 0).sum(0)
    spent = withstood + free == len(holders)
    fewest: NDArray[np.int64] = np.where(spent, len(holders), withstood).min(1)
    return fewest
