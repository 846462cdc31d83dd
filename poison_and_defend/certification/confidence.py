"""From counted votes to probabilities: exact one-sided binomial bounds (Clopper and Pearson, 1934)."""

from math import ceil, log
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincc, betainccinv, betaincinv

from poison_and_defend.certification.rounding import SLACK, Floats, lowered, raised
from poison_and_defend.core.errors import InputError

_STEPS = (0.0, 1e-6, 1e-3)
"""By what share of themselves bounds are moved to the safe side where less is not enough."""


def check_alpha(alpha: float) -> None:
    """Raises: InputError: If ``alpha``, the chance that a bound is wrong, is outside (0, 1)."""
    if not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha:g}: the chance of a wrong certificate is between 0 and 1, both excluded (--alpha)")


def check_probabilities(*given: ArrayLike) -> None:
    """Raises: InputError: If a number is no probability."""
    for values in given:
        numbers = np.asarray(values, np.float64)
        if not ((numbers >= 0) & (numbers <= 1)).all():
            raise InputError("probabilities are from 0 to 1")


def lower_bound(successes: ArrayLike, trials: ArrayLike, alpha: float) -> Floats:
    """A bound that is above the true probability with chance at most ``alpha``, whatever that probability is.

    Condition: ``successes`` of ``trials`` independent draws, their number fixed in advance, and the event whose probability
    is bounded chosen without looking at them.

    Args:
        successes: Counts in 0..trials, any shape.
        trials: At least 1, broadcast with ``successes``.
        alpha: In (0, 1).

    Raises:
        InputError: If ``alpha`` is outside (0, 1) or counts are not in 0..trials.
    """
    won, tried = _counts(successes, trials, alpha)
    first, second = np.maximum(won, 1), tried - won + 1
    found = np.zeros(won.shape)
    with np.errstate(all="ignore"):
        inverse = betaincinv(first, second, alpha)
        # The inverse is not to be trusted for chances like 1e-100 or a billion votes: the first that the tail itself allows.
        for less in reversed(_STEPS):
            bound = lowered(inverse * (1 - less))
            found = np.where(betainc(first, second, bound) <= alpha, bound, found)
    return np.where(won == 0, 0.0, found)


def upper_bound(successes: ArrayLike, trials: ArrayLike, alpha: float) -> Floats:
    """A bound that is below the true probability with chance at most ``alpha``; see :func:`lower_bound`."""
    won, tried = _counts(successes, trials, alpha)
    first, second = won + 1, np.maximum(tried - won, 1)
    found = np.ones(won.shape)
    with np.errstate(all="ignore"):
        inverse = betainccinv(first, second, alpha)
        for more in reversed(_STEPS):
            bound = raised(inverse + more * (1 - inverse))
            found = np.where(betaincc(first, second, bound) <= alpha, bound, found)
    return np.where(won == tried, 1.0, found)


def _counts(successes: ArrayLike, trials: ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    check_alpha(alpha)
    won, tried = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(trials, np.float64))
    if not ((tried >= 1) & (won >= 0) & (won <= tried)).all():
        raise InputError("votes are counts from 0 to the number of models, of at least one model")
    return won, tried


def votes_needed(alpha: float, probability: float = 0.5) -> int:
    """How many unanimous votes put the lower bound above ``probability``: fewer can never certify anything.

    Unanimity of N gives alpha^(1/N).

    Raises:
        InputError: If ``alpha`` is outside (0, 1), or so is ``probability``, within what is taken off for rounding.
    """
    check_alpha(alpha)
    if not 0 < probability < 1 - 2 * SLACK:
        raise InputError(f"the probability is {probability:g}: no number of votes puts a bound above it, or all do")
    count = max(1, ceil(log(alpha) / log(probability + SLACK)))
    # At equality the bound is probability itself, which is not above it.
    return count if lower_bound(count, count, alpha) > probability else count + 1


class VoteBounds(NamedTuple):
    """Per test image: the class that won, a lower bound of its probability, an upper bound of every other class's."""

    labels: NDArray[np.int64]
    winner: Floats
    others: Floats


def vote_bounds(counts: ArrayLike, alpha: float, *, selection: ArrayLike | None = None, runner_up: bool = False) -> VoteBounds:
    """Bounds of the winner's and the others' probabilities, all of one image right with probability at least 1 - alpha.

    The winner must not be chosen from the votes that then bound it unless the price is paid. With ``selection``, votes of
    *other* models choose it. Without, the same votes do, and a bound above 1/2 is wrong with chance at most ``alpha`` where
    each class alone is bounded at ``alpha`` / 2, however many classes there are (`docs/explain/certificates.md`).

    Args:
        counts: Votes per test image and class, (T, C).
        alpha: In (0, 1); holds for each image, not for all of them jointly: divide by T for that.
        selection: Votes of other models that choose the winner, (T, C), independent of ``counts``.
        runner_up: False bounds the others together by 1 - winner, and says nothing of a winner that is not shown to have more
            than half: its bound is 0 then. True bounds each of them by its own votes, which may certify a winner with less than
            half of the votes and costs ``alpha`` for every class.

    Raises:
        InputError: If ``alpha`` is outside (0, 1), a shape is not (T, C), or images have different numbers of votes.
    """
    votes = np.asarray(counts)
    chosen = votes if selection is None else np.asarray(selection)
    if votes.ndim != 2 or votes.shape[1] < 2 or chosen.shape != votes.shape:
        raise InputError(f"votes have shape {votes.shape} and selecting votes {chosen.shape}: both are (images, classes)")
    trials = votes.sum(1)
    if len(trials) and trials.min() != trials.max():
        raise InputError(f"images have {trials.min()} to {trials.max()} votes: every model votes on every image")
    labels = chosen.argmax(1)
    classes, rows = votes.shape[1], np.arange(len(votes))
    if not runner_up:
        winner = lower_bound(votes[rows, labels], trials, majority_alpha(alpha, fresh=selection is not None))
        winner = np.where(winner > 0.5, winner, 0.0)
        return VoteBounds(labels, winner, 1 - winner)
    # What must hold at once: the winner's bound and one for each other class; of every class that could have won where the
    # same votes choose it.
    bounds = classes if selection is not None else 2 * classes
    winner = lower_bound(votes[rows, labels], trials, alpha / bounds)
    uppers = upper_bound(votes, trials[:, None], alpha / bounds)
    uppers[rows, labels] = 0
    return VoteBounds(labels, winner, np.minimum(uppers.max(1), 1 - winner))


def majority_alpha(alpha: float, *, fresh: bool) -> float:
    """The level of one class's bound, where the claim is that the winner has more than half.

    Args:
        alpha: Of the claim.
        fresh: Whether votes of other models chose the winner.
    """
    return alpha if fresh else alpha / 2
