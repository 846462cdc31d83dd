"""Votes of the training rows themselves, by their likeness to the test image: nothing is trained, and no seed is kept.

Radius neighbours are the case of Jia, Liu, Cao, Gong, "Certified Robustness of Nearest Neighbors against Data Poisoning and
Backdoor Attacks" (AAAI 2022); bounded kernels and clean labels are ours. `docs/explain/certificates.md` derives it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from poison_and_defend.certification.deterministic.partitions import check_votes, leads
from poison_and_defend.certification.rounding import Floats
from poison_and_defend.core.errors import InputError

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
    """The class whose rows weigh most, and how many changed rows cannot alter it.

    The number is exact where all weights are boolean and what trusted rows add is whole; otherwise it may be one too small
    where a lead is lost within what rounding could be.

    Condition: the weight of a row depends on that row, the test image and trusted data alone, and is in [0, 1]. A poison may
    give its row any weight. Of clean labels it takes away what a row of the winner's weighs, or adds what one of a rival's
    lacks; the attacker takes the largest of both. With a new label a row of the winner's costs what it weighs and 1 more, and
    one of a third class 1.

    Args:
        weights: Of every row for every test image, (T, n), from 0 to 1; boolean for rows within a radius.
        labels: Of the rows, (n,).
        classes: How many there are.
        limit: The most poisons that are asked about, at least 1.
        trusted: What rows out of the attacker's reach add to the classes' scores, (T, classes), of any weights.
        relabel: Whether a poison may change its row's label, too.

    Raises:
        InputError: If weights are outside [0, 1], or anything has another shape or range.
    """
    rows, of = np.asarray(weights), np.asarray(labels, np.int64)
    if rows.ndim != 2 or of.shape != rows.shape[1:]:
        raise InputError(f"weights have shape {rows.shape} and labels {of.shape}: they are (images, rows) and (rows,)")
    if not ((rows >= 0) & (rows <= 1)).all():
        raise InputError("a row's weight is from 0 to 1")
    if limit < 1 or classes < 2 or not ((of >= 0) & (of < classes)).all():
        raise InputError(
            f"with {classes} classes labels are from 0 to {classes - 1}, and the limit of {limit} poisons at least 1"
        )
    added = np.zeros((len(rows), classes)) if trusted is None else np.asarray(trusted, np.float64)
    if added.shape != (len(rows), classes) or not np.isfinite(added).all():
        raise InputError(
            f"what trusted rows add is of shape {added.shape}: a finite number for each of {len(rows)} images and class"
        )
    parts = range(0, len(rows), _IMAGES)
    votes = [_judged(rows[at : at + _IMAGES], of, added[at : at + _IMAGES], limit, relabel) for at in parts]
    if not votes:
        return NeighbourVote(np.zeros(0, np.int64), np.zeros(0, np.int64))
    return NeighbourVote(*(np.concatenate(column) for column in zip(*votes, strict=True)))


def radius_poisons(counts: ArrayLike, *, relabel: bool = False) -> NDArray[np.int64]:
    """How many rows may change without changing which class has most rows within a radius of the test image.

    Condition: as :func:`neighbour_vote`, all weights 0 or 1. One changed row of clean labels moves one count by one, as does a
    row that is added or removed; one whose label changes, too, may move a vote from the winner to a rival. What trusted rows
    count is added before. Ties go to the smaller class.

    Args:
        counts: Rows within the radius, with what trusted rows add, (T, C), C at least 2.
        relabel: Whether a poison may change its row's label, too.

    Returns:
        (T,): the winner's lead over its nearest rival, one less where that one wins ties; half of it with new labels.

    Raises:
        InputError: If these are no counts.
    """
    found: NDArray[np.int64] = leads(check_votes(counts)).min(1)
    return found // 2 if relabel else found


def _judged(weights: NDArray[np.generic], labels: NDArray[np.int64], added: Floats, limit: int, relabel: bool) -> NeighbourVote:
    classes = added.shape[1]
    # In rows, since numpy sums columns one after the other and loses digits on the way.
    own = [np.ascontiguousarray(weights[:, labels == number], np.float64) for number in range(classes)]
    slack = 0.0 if weights.dtype == np.bool_ and (added == np.rint(added)).all() else _rounding(len(labels), limit, added)
    scores = np.stack([rows.sum(1) for rows in own], 1) + added
    winners = scores.argmax(1)
    images, sizes = np.arange(len(weights)), np.bincount(labels, minlength=classes)
    taken = np.stack([_largest(rows + relabel, limit) for rows in own])[winners, images]
    fewest = np.full(len(weights), limit)
    for rival, rows in enumerate(own):
        elsewhere = len(labels) - sizes[winners] - sizes[rival] if relabel else np.zeros_like(winners)
        damages = [taken, _largest(1 - rows, limit), np.arange(limit) < elsewhere[:, None]]
        lost = -np.sort(-np.concatenate(damages, 1), axis=1)[:, :limit]
        lead = scores[images, winners] - scores[:, rival] - slack
        total = lost.cumsum(1)
        # A smaller class wins a tie.
        stands = np.where((rival < winners)[:, None], total < lead[:, None], total <= lead[:, None]).sum(1)
        fewest = np.where(winners == rival, fewest, np.minimum(fewest, stands))
    return NeighbourVote(winners, fewest.astype(np.int64))


def _rounding(rows: int, limit: int, added: Floats) -> float:
    """More than a lead and the sum of so many damages, one after the other, can be wrong by in double precision."""
    return float(np.finfo(np.float64).eps * (64 * (rows + np.abs(added).max(initial=0)) + 4 * limit**2))


def _largest(values: Floats, count: int) -> Floats:
    """``(T, count)``: the largest of each row in any order, 0 where there are no more."""
    missing = count - values.shape[1]
    if missing >= 0:
        return np.pad(values, ((0, 0), (0, missing)))
    return np.partition(values, -count, axis=1)[:, -count:]
