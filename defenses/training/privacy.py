"""What differential privacy of a training says about poisons: the privacy loss, and how much k changed rows can matter."""

import math
import warnings

from scipy.stats import norm


def poisson_epsilon(noise_multiplier: float, batch_size: int, rows: int, steps: int, delta: float) -> float:
    """Privacy loss of DP-SGD by Opacus' accountant of Renyi divergences, if every batch were a Poisson sample of the rows.

    Two sets are neighbours here if one has a row more. Infinite without noise.
    """
    if noise_multiplier == 0:
        return math.inf
    # Takes seconds, and only whoever uses DP-SGD needs it.
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(noise_multiplier, min(1.0, batch_size / rows), steps)]
    with warnings.catch_warnings():
        # It says that more orders of the divergence might give less: what it gives is an upper bound all the same.
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta))


def shuffled_mu(noise_multiplier: float, epochs: int, changed: int = 1) -> float:
    """Gaussian privacy parameter of DP-SGD on shuffled batches when rows are *changed*, without any gain from sampling.

    A row is in one step an epoch, whichever, and a changed row moves that step's sum by 2 C at most: of ``changed`` rows, all
    of which may meet in one step, an epoch is a Gaussian mechanism with ``2 changed / z`` standard deviations. Epochs compose
    in quadrature (Dong, Roth, Su, "Gaussian Differential Privacy", JRSS B 2022, corollary 3.3).
    """
    return math.inf if noise_multiplier == 0 else 2 * changed * math.sqrt(epochs) / noise_multiplier


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The epsilon of a Gaussian mechanism at delta, corollary 2.13 of Dong et al.; infinite where no number is small enough."""

    def found(epsilon: float) -> float:
        lower = norm.logcdf(-epsilon / mu - mu / 2)
        return float(norm.cdf(-epsilon / mu + mu / 2) - math.exp(min(700.0, epsilon + lower)))

    if not math.isfinite(mu):
        return math.inf
    low, high = 0.0, 1.0
    while found(high) > delta:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if found(middle) > delta else (low, middle)
    return high


def group_bound(probability: float, epsilon: float, delta: float, changed: int) -> float:
    """The most that an event of this probability can have after so many changes of one row: ``e^(k eps) p + delta (...)``.

    Group privacy (Dwork and Roth, "The Algorithmic Foundations of Differential Privacy", 2014, theorem 2.2, with delta):
    ``delta (e^(k eps) - 1) / (e^eps - 1)``. 1 where it says nothing.
    """
    if not changed * epsilon < 700:
        return 1.0
    grown = math.exp(changed * epsilon)
    total = changed if epsilon == 0 else math.expm1(changed * epsilon) / math.expm1(epsilon)
    return min(1.0, grown * probability + delta * total)


def gaussian_bound(probability: float, mu: float) -> float:
    """The most that an event of this probability can have on a neighbouring set under Gaussian privacy."""
    return 1.0 if not math.isfinite(mu) else float(norm.cdf(norm.ppf(probability) + mu))
