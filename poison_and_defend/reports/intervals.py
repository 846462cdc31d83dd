"""How uncertain a success rate is: the setups, not the images tested within one, are what was drawn independently."""

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest, t


class Interval(NamedTuple):
    """Bounds in [0, 1], and the name of the method that gave them."""

    low: float
    high: float
    method: str


def clopper_pearson(successes: int, trials: int) -> tuple[float, float]:
    """Exact binomial interval of a rate, at 95 %."""
    bounds = binomtest(successes, trials).proportion_ci(confidence_level=0.95, method="exact")
    return float(bounds.low), float(bounds.high)


def student_t(rates: Sequence[float]) -> tuple[float, float]:
    """Interval of the mean of at least two setups' rates, at 95 %, clipped to [0, 1]."""
    low, high = mean_interval(rates)
    return max(0.0, low), min(1.0, high)


def rate_interval(successes: Sequence[int], trials: Sequence[int]) -> Interval:
    """The 95 % interval of the mean over setups of successes / trials.

    Args:
        successes: Of each setup.
        trials: Of each setup, at least 1.
    """
    pooled = clopper_pearson(sum(successes), sum(trials))
    if max(trials) == 1:
        return Interval(*pooled, "Clopper-Pearson over setups")
    if len(trials) == 1:
        return Interval(*pooled, "Clopper-Pearson over the images of one setup")
    low, high = student_t([won / tried for won, tried in zip(successes, trials, strict=True)])
    # Equal rates leave Student's t no width, though each is itself estimated from images.
    if pooled[0] < low or pooled[1] > high:
        method = "Student t over setups, widened to Clopper-Pearson over images"
        return Interval(min(low, pooled[0]), max(high, pooled[1]), method)
    return Interval(low, high, "Student t over setups")


def sign_test(changes: Sequence[float]) -> tuple[int, int, float]:
    """How many changes are above zero and how many below, and the chance of so many above if either were as likely.

    The exact one-sided sign test; for outcomes 0 and 1 it is McNemar's. Changes of zero tell nothing and are left out.
    """
    higher, lower = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    p = binomtest(higher, higher + lower, alternative="greater").pvalue if higher + lower else 1.0
    return higher, lower, float(p)


def benchmark_error(hits: int, setups: int) -> float:
    """The public benchmark's error bar of hits / setups: one standard error, the largest there is near 0 and 1.

    Near the ends, at most five setups from none or all, the estimated standard error is too small to be trusted
    (Schwarzschild et al., "Just How Toxic is Data Poisoning?", 2021).
    """
    rate = hits / setups
    variance = 0.25 if hits <= 5 or hits >= setups - 5 else rate * (1 - rate)
    return sqrt(variance / setups)


def paired_change(outcomes: Sequence[tuple[bool, bool]]) -> dict[str, float]:
    """Share that is right before and after, of the same images, and the change with its 95 % interval.

    Args:
        outcomes: Of each image, whether it is right before, and after.
    """
    n = len(outcomes)
    before, after = sum(one for one, _ in outcomes), sum(two for _, two in outcomes)
    low, high = paired_interval(n, (after - before) / n, sum(one != two for one, two in outcomes) / n)
    return {"n": n, "before": before / n, "after": after / n, "change": (after - before) / n, "low": low, "high": high}


def paired_interval(n: int, mean: float, mean_square: float) -> tuple[float, float]:
    """The 95 % interval of a mean of paired differences in [-1, 1], clipped to that.

    Wald's with a half added to each of the four counts (Agresti and Min, Statistics in Medicine 24, 2005), which are one
    difference of 1, one of -1 with half a weight each, and one of 0: so that a few images without any change do not pass for
    proof that there is none.

    Args:
        n: Number of images, at least 1.
        mean: Of the differences.
        mean_square: Of their squares.
    """
    total = n + 2
    change = n * mean / total
    margin = 1.959964 * sqrt(max(0.0, (n * mean_square + 1) / total - change**2) / total)
    return max(-1.0, change - margin), min(1.0, change + margin)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Student t interval of a mean, at 95 %, of at least two values; not clipped."""
    found = np.asarray(values, float)
    margin = float(t.ppf(0.975, len(found) - 1)) * float(found.std(ddof=1)) / sqrt(len(found))
    return float(found.mean()) - margin, float(found.mean()) + margin
