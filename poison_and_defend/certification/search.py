"""How large an attack votes withstand: tables over (k, eps), the largest eps for k poisons, the largest k for an eps."""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import betabinom

from poison_and_defend.certification.confidence import check_probabilities, lower_bound
from poison_and_defend.certification.joint import joint_lower, joint_upper, needed_probability
from poison_and_defend.certification.rounding import Floats
from poison_and_defend.certification.sampling import Sampling

_HALVINGS = 60


def needed_grid(ks: ArrayLike, eps: ArrayLike, sigma: float, sampling: Sampling, trigger: float = 0.0) -> Floats:
    """Needed probability of every pair: one table certifies any number of test images.

    Each is :func:`poison_and_defend.certification.joint.needed_probability`.

    Args:
        ks: Numbers of poisons, (K,).
        eps: l2 budgets of one image, (E,).
        sigma: Standard deviation of the noise in [0, 1] pixel units, above 0.
        sampling: How subsamples are drawn.
        trigger: By how many standard deviations of its own noise the test image moves besides.

    Returns:
        (K, E). An image whose winner has a lower bound above an entry is certified for that pair.
    """
    radii = np.asarray(eps, np.float64)
    return np.stack([needed_probability(int(k), radii, sigma, sampling, trigger) for k in np.asarray(ks)])


def certified_share(bounds: ArrayLike, needed: ArrayLike) -> Floats:
    """Share of test images certified at each entry of a table.

    Args:
        bounds: Lower bounds of the winner's probability, (T,); 0 for images whose winner is not what should be counted.
        needed: Any shape.
    """
    ordered = np.sort(np.asarray(bounds, np.float64))
    above = len(ordered) - np.searchsorted(ordered, np.asarray(needed, np.float64), side="right")
    return np.asarray(above / max(1, len(ordered)), np.float64)


def certified_by_pairs(
    winner: ArrayLike,
    others: ArrayLike,
    ks: ArrayLike,
    eps: ArrayLike,
    sigma: float,
    sampling: Sampling,
    trigger: float = 0.0,
) -> Floats:
    """Share of test images whose winner keeps its lead over each other class, whether or not it has more than half.

    Condition: joint_lower(pA) > joint_upper(pB) of :mod:`poison_and_defend.certification.joint`.

    Args:
        winner: Lower bounds pA of the winner's probability, (T,); 0 for images whose winner is not what should be counted.
        others: Upper bounds pB of each other class's, (T,).
        ks: Numbers of poisons, (K,).
        eps: l2 budgets of one image, (E,).
        sigma: Standard deviation of the noise, as :func:`needed_grid` takes it.
        sampling: See there.
        trigger: See there.

    Returns:
        (K, E).
    """
    pairs = np.stack([np.asarray(winner, np.float64), np.asarray(others, np.float64)], 1)
    known, images = np.unique(pairs, axis=0, return_counts=True)
    leading = known[:, 0] > known[:, 1]
    (low, high), images = known[leading].T, images[leading]
    shape = len(np.asarray(ks)), len(np.asarray(eps))
    found = np.zeros(shape)
    for i, k in enumerate(np.asarray(ks).tolist()):
        for j, radius in enumerate(np.asarray(eps, np.float64).tolist()):
            left = joint_lower(low, k, radius, sigma, sampling, trigger)
            found[i, j] = images[left > joint_upper(high, k, radius, sigma, sampling, trigger)].sum()
    return found / max(1, len(pairs))


def largest_eps(p: ArrayLike, k: int, sigma: float, sampling: Sampling) -> Floats:
    """Largest l2 change of each of k images that leaves a class of probability p above 1/2.

    Args:
        p: Lower bounds of the class's probability, any shape.
        k: Number of poisons, at least 0.
        sigma: Standard deviation of the noise, as :func:`poison_and_defend.certification.joint.joint_lower` takes it.
        sampling: See there.

    Returns:
        A radius at which the certificate holds, less than a millionth below the largest one for p of .5001 and more, since
        what is taken off for rounding weighs more near 1/2; infinite where subsampling alone suffices or p is 1; NaN where p is
        not above 1/2, so that there is nothing to certify.
    """
    shape = np.shape(p)
    levels, places = np.unique(np.asarray(p, np.float64), return_inverse=True)
    found = np.full(len(levels), np.nan)
    leading = levels > 0.5
    unlimited = (levels == 1) | leading & (joint_lower(levels, k, np.inf, sigma, sampling) > 0.5)
    found[unlimited] = np.inf
    open_ = leading & ~unlimited
    p_open = levels[open_]
    low, high = np.zeros(len(p_open)), np.full(len(p_open), sigma)
    while (growing := joint_lower(p_open, k, high, sigma, sampling) > 0.5).any():
        low, high = np.where(growing, high, low), np.where(growing, 2 * high, high)
    for _ in range(_HALVINGS):
        if (high - low <= 1e-9 * low).all():
            break
        middle = (low + high) / 2
        holds = joint_lower(p_open, k, middle, sigma, sampling) > 0.5
        low, high = np.where(holds, middle, low), np.where(holds, high, middle)
    found[open_] = low
    return found[places].reshape(shape)


def largest_k(p: ArrayLike, eps: float, sigma: float, sampling: Sampling, limit: int | None = None) -> NDArray[np.int64]:
    """Largest number of images that may change by eps each, in l2, and leave a class of probability p above 1/2.

    Args:
        p: Lower bounds of the class's probability, any shape.
        eps: In [0, 1] pixel units, at least 0, may be infinite.
        sigma: Standard deviation of the noise, as :func:`poison_and_defend.certification.joint.joint_lower` takes it.
        sampling: See there.
        limit: Where to stop looking; the size of the set if None.

    Returns:
        Integers; -1 where p is not above 1/2, so that there is nothing to certify, ``limit`` where no limit was found.
    """
    check_probabilities(p)
    top = sampling.n if limit is None else min(limit, sampling.n)

    @cache
    def needed(k: int) -> float:
        return float(needed_probability(k, eps, sigma, sampling))

    def search(probability: float) -> int:
        if not probability > 0.5:
            return -1
        low, high = 0, 1
        while high <= top and probability > needed(high):
            low, high = high, 2 * high
        high = min(high, top + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if probability > needed(middle) else (low, middle)
        return low

    levels, places = np.unique(np.asarray(p, np.float64), return_inverse=True)
    return np.array([search(level) for level in levels], np.int64)[places].reshape(np.shape(p))


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
