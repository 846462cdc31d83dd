"""Which (sigma, m, N) is worth its price: what a few pilot models foretell about many."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import betabinom

from poison_and_defend.certification.confidence import Floats, lower_bound


def votes_to_certify(needed: ArrayLike, models: int, alpha: float) -> NDArray[np.int64]:
    """Smallest number of votes, of ``models``, whose lower bound is above ``needed``; models + 1 where not even all suffice.

    Args:
        needed: Probabilities, such as of :func:`poison_and_defend.certification.joint.needed_probability`, any shape.
        models: N, at least 1.
        alpha: Of one bound: what is left after the choice of the winner is paid for.
    """
    bounds = lower_bound(np.arange(models + 1), models, alpha)
    # Bounds rise with the votes, so that the first that is above stands right of all that are not.
    counts: NDArray[np.int64] = np.searchsorted(bounds, np.asarray(needed, np.float64), side="right").astype(np.int64)
    return counts


def expected_certified(votes: ArrayLike, pilots: int, needed: float, models: int, alpha: float) -> float:
    """Expected share of test images that ``models`` votes will certify, each as its true class.

    Each image's unknown probability has Jeffreys' prior, Beta(1/2, 1/2), so that N further votes for its class follow a
    beta-binomial law given the pilots'. A forecast for choosing, not a bound.

    Args:
        votes: Pilot votes for the true class, (T,).
        pilots: Number of pilot models, at least 1.
        needed: Probability that the attack budget asks for at this (sigma, m).
        models: N.
        alpha: Of one bound.
    """
    counted, images = np.unique(np.asarray(votes, np.int64), return_counts=True)
    wanted = int(votes_to_certify(needed, models, alpha))
    chances: Floats = betabinom.sf(wanted - 1, models, counted + 0.5, pilots - counted + 0.5)
    return float((chances * images).sum() / max(1, images.sum()))
