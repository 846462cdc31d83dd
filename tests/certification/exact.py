"""Certificates in 50-digit arithmetic, by other ways than the package's: attackers' best laws, and no multipliers."""

from collections.abc import Callable, Mapping
from math import inf

import mpmath as mp
from scipy.special import ndtri

Law = Mapping[int, mp.mpf]
"""Chances of numbers of poisons in a subsample."""

mp.mp.dps = 50


def cdf(x: mp.mpf) -> mp.mpf:
    """Phi."""
    return mp.erfc(-x / mp.sqrt(2)) / 2


def density(x: mp.mpf) -> mp.mpf:
    """Phi's derivative."""
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


def quantile(p: mp.mpf) -> mp.mpf:
    """Phi's inverse: Newton's method on the logarithm of the smaller tail."""
    if p <= 0 or p >= 1:
        return mp.mpf(-inf if p <= 0 else inf)
    if p > mp.mpf(0.5):
        return -quantile(1 - p)
    x = mp.mpf(float(ndtri(float(p))))
    for _ in range(8):
        tail = cdf(x)
        x -= tail * mp.log(tail / p) / density(x)
    return x


def whole_set(p: float, change: float, sigma: float) -> mp.mpf:
    """What is left of p when the whole set moves."""
    return cdf(quantile(mp.mpf(p)) - mp.mpf(change) / mp.mpf(sigma))


def hypergeometric(n: int, k: int, m: int) -> Law:
    """Of k poisons among n images, in m drawn without replacement."""
    ways = mp.binomial(n, m)
    return {j: mp.binomial(k, j) * mp.binomial(n - k, m - j) / ways for j in range(max(0, m - n + k), min(k, m) + 1)}


def binomial(k: int, q: float) -> Law:
    """Of k poisons, each drawn with chance q."""
    return {j: mp.binomial(k, j) * mp.mpf(q) ** j * (1 - mp.mpf(q)) ** (k - j) for j in range(k + 1)}


def joint(p: float | mp.mpf, eps: float, sigma: float, law: Law) -> mp.mpf:
    """The least probability of a class whose probability is p: Neyman and Pearson's test of size p, evaluated."""
    p, step, free = mp.mpf(p), mp.mpf(eps) / mp.mpf(sigma), law.get(0, mp.mpf(0))
    shifts = [(mass, step * mp.sqrt(j)) for j, mass in law.items() if j]
    if eps == 0 or not shifts or p in (0, 1):
        return p

    def total(t: mp.mpf, side: int, function: Callable[[mp.mpf], mp.mpf] = cdf, power: int = 0) -> mp.mpf:
        return sum(mass * function(t / mu + side * mu / 2) / mu**power for mass, mu in shifts)

    below = total(mp.mpf(0), 1)
    if below <= p <= below + free:
        return total(mp.mpf(0), -1) + p - below
    wanted, way = (p, -1) if p < below else (p - free, 1)
    far = mp.mpf(way)
    while way * (wanted - total(far, 1)) > 0:
        far *= 2
    low, high = min(far, 0), max(far, 0)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if total(middle, 1) > wanted else (middle, high)
    t = (low + high) / 2
    for _ in range(3):
        t -= (total(t, 1) - wanted) / total(t, 1, density, 1)
    return total(t, -1) + (free if way > 0 else 0)


def subsampled(p: float, change: float, sigma: float, inclusion: float) -> mp.mpf:
    """The least over laws of two points, none and one shift, of which the mean is what the change allows.

    More points are of no use: at the best multiplier the attacker's gain is a straight line between two of them.
    """
    given, share, distance = mp.mpf(p), mp.mpf(inclusion), mp.mpf(change) / mp.mpf(sigma)

    def left(log_weight: mp.mpf) -> mp.mpf:
        weight = mp.exp(log_weight)
        mu = distance * mp.sqrt(share / weight)
        less, more = weight * cdf(mu / 2), 1 - weight + weight * cdf(mu / 2)
        if given < less:
            return weight * cdf(quantile(given / weight) - mu)
        if given > more:
            return 1 - weight + weight * cdf(quantile(1 - (1 - given) / weight) - mu)
        return weight * cdf(-mu / 2) + given - less

    grid = [mp.log(share) * number / 40 for number in range(41)]
    values = [left(place) for place in grid]
    best = values.index(min(values))
    low, high = grid[min(best + 1, 40)], grid[max(best - 1, 0)]
    golden = (mp.sqrt(5) - 1) / 2
    for _ in range(45):
        one, other = high - golden * (high - low), low + golden * (high - low)
        low, high = (one, high) if left(one) > left(other) else (low, other)
    return min(*values, left((low + high) / 2))


def tail(successes: int, trials: int, p: float) -> mp.mpf:
    """The chance of at least so many successes."""
    return mp.betainc(successes, trials - successes + 1, 0, mp.mpf(p), regularized=True) if successes else mp.mpf(1)
