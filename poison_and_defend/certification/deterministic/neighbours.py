"""Votes of the training rows themselves, by their likeness to the test image: nothing is trained, and no seed is kept.

Radius neighbours are the case of Jia, Liu, Cao, Gong, "Certified Robustness of Nearest Neighbors against Data Poisoning and
Backdoor Attacks" (AAAI 2022); bounded kernels and clean labels are ours. `docs/explain/certificates.md` derives it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from poison_and_defend.certification.rounding import Floats

_ROUNDING = 1e-8
"""More than sums of a million weights can be wrong by."""

_IMAGES = 128
"""Test images that are judged at once: memory for the largest damages by class, image and poison."""


class NeighbourVote(NamedTuple):
    """What rows say of each test image.

    Attributes:
        labels: Class of the largest score, the smaller one where two are equal, (T,).
        poisons: How many rows may change as they like without changing it, at most the limit, (T,).
    """

    labels: NDArray[np.int64]
    poisons: NDArray[np.int64]


def neighbour_vote(
    weights: ArrayLike, labels: ArrayLike, classes: int, limit: int, *, trusted: ArrayLike | None = None, relabel: bool = False
) -> NeighbourVote:
    """The class whose rows weigh most, and how many changed rows cannot alter it: exactly so many where weights are boolean.

    Condition: the weight of a row depends on that row, the test image and trusted data alone, and is in [0, 1]. A poison may
    give its row any weight. Of clean labels it takes away what a row of the winner's weighs, or adds what one of a rival's
    lacks; the attacker takes the largest of both. With a new label a row of the winner's costs both, and any third one a whole
    weight.

    Args:
        weights: Of every row for every test image, (T, n), from 0 to 1; boolean for rows within a radius.
        labels: Of the rows, (n,).
        classes: How many there are.
        limit: The most poisons that are asked about, at least 1.
        trusted: What rows out of the attacker's reach add to the classes' scores, (T, classes), of any weights.
        relabel: Whether a poison may change its row's label, too.
    """
    rows, of = np.asarray(weights), np.asarray(labels, np.int64)
    added = np.zeros((len(rows), classes)) if trusted is None else np.asarray(trusted, np.float64)
    parts = range(0, len(rows), _IMAGES)
    votes = [_judged(rows[at : at + _IMAGES], of, added[at : at + _IMAGES], limit, relabel) for at in parts]
    if not votes:
        return NeighbourVote(np.zeros(0, np.int64), np.zeros(0, np.int64))
    return NeighbourVote(*(np.concatenate(column) for column in zip(*votes, strict=True)))


def _judged(weights: NDArray[np.generic], labels: NDArray[np.int64], added: Floats, limit: int, relabel: bool) -> NeighbourVote:
    classes, exact = added.shape[1], weights.dtype == np.bool_
    own = [weights[:, labels == number].astype(np.float64) for number in range(classes)]
    scores = np.stack([rows.sum(1) for rows in own], 1) + added
    winners = scores.argmax(1)
    images, sizes = np.arange(len(weights)), np.bincount(labels, minlength=classes)
    taken = np.stack([_largest(rows + relabel, limit) for rows in own])[winners, images]
    fewest = np.full(len(weights), limit)
    for rival, rows in enumerate(own):
        elsewhere = len(labels) - sizes[winners] - sizes[rival] if relabel else np.zeros_like(winners)
        damages = [taken, _largest(1 - rows, limit), np.arange(limit) < elsewhere[:, None]]
        lost = -np.sort(-np.concatenate(damages, 1), axis=1)[:, :limit]
        lead = scores[images, winners] - scores[:, rival] - (0 if exact else _ROUNDING)
        total = lost.cumsum(1)
        # A smaller class wins a tie.
        stands = np.where((rival < winners)[:, None], total < lead[:, None], total <= lead[:, None]).sum(1)
        fewest = np.where(winners == rival, fewest, np.minimum(fewest, stands))
    return NeighbourVote(winners, fewest.astype(np.int64))


def _largest(values: Floats, count: int) -> Floats:
    """``(T, count)``: the largest of each row in any order, 0 where there are no more."""
    missing = count - values.shape[1]
    if missing >= 0:
        return np.pad(values, ((0, 0), (0, missing)))
    return np.partition(values, -count, axis=1)[:, -count:]
