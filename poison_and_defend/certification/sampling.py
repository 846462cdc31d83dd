"""How many of k poisons a model's own subsample holds."""

from dataclasses import dataclass
from math import ceil, sqrt
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.certification.rounding import Floats
from poison_and_defend.core.errors import InputError

_NEGLIGIBLE = 1e-25
"""Probabilities below this are not listed one by one; their sum is."""


class PoisonCounts(NamedTuple):
    """The distribution of J, the number of poisons in a subsample.

    Attributes:
        numbers: Values of J that are listed, ascending, (T,).
        masses: Their probabilities, (T,).
        rest: Probability of all values that are not listed. Certificates give it to the attacker.
    """

    numbers: NDArray[np.int64]
    masses: Floats
    rest: float


class Sampling(Protocol):
    """How a model's subsample is drawn from the training set."""

    @property
    def n(self) -> int:
        """Size of the training set."""
        ...

    @property
    def inclusion(self) -> float:
        """The chance of an image to be in a subsample."""
        ...

    @property
    def length(self) -> int:
        """How many places a model's training set has, whatever is drawn: known before any draw."""
        ...

    def poison_counts(self, k: int) -> PoisonCounts:
        """The distribution of the number of poisons in a subsample if k of the n images are poisons."""
        ...

    def draw(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Distinct row numbers of one subsample, at most ``length``, drawn without looking at any image."""
        ...


@dataclass(frozen=True)
class FixedSize:
    """m of n images without replacement: J is hypergeometric.

    Raises:
        InputError: If not 1 <= m <= n.
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        if not 1 <= self.m <= self.n:
            raise InputError(f"m is {self.m}: a subsample holds 1 to {self.n} images, the size of the set (--m)")

    @property
    def inclusion(self) -> float:
        """See :class:`Sampling`."""
        return self.m / self.n

    @property
    def length(self) -> int:
        """See :class:`Sampling`."""
        return self.m

    def draw(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """See :class:`Sampling`."""
        return generator.choice(self.n, self.m, replace=False)

    def poison_counts(self, k: int) -> PoisonCounts:
        """See :class:`Sampling`."""
        check_k(k, self.n)
        n, m = self.n, self.m
        low, high = max(0, m - (n - k)), min(k, m)
        j = np.arange(low, high, dtype=np.float64)
        # P(J = j + 1) / P(J = j); every factor is an integer below 2^53.
        ratios = np.log(k - j) + np.log(m - j) - np.log(j + 1) - np.log(n - k - m + j + 1)
        return _from_ratios(low, ratios)


@dataclass(frozen=True)
class Poisson:
    """Each of n images with probability q, independently: J is binomial.

    Raises:
        InputError: If not 0 < q <= 1.
    """

    n: int
    q: float

    def __post_init__(self) -> None:
        if not 0 < self.q <= 1:
            raise InputError(f"q is {self.q:g}: the chance to be in a subsample is above 0 and at most 1 (--q)")

    @property
    def inclusion(self) -> float:
        """See :class:`Sampling`."""
        return self.q

    @property
    def length(self) -> int:
        """The mean and six standard deviations. Larger draws, one in a billion, lose their surplus: seeing less is allowed."""
        mean = self.n * self.q
        return min(self.n, ceil(mean + 6 * sqrt(mean * (1 - self.q))))

    def draw(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """See :class:`Sampling`; may be empty."""
        rows = np.flatnonzero(generator.random(self.n) < self.q)
        return generator.permutation(rows)[: self.length]

    def poison_counts(self, k: int) -> PoisonCounts:
        """See :class:`Sampling`."""
        check_k(k, self.n)
        if self.q == 1:
            return PoisonCounts(np.array([k]), np.ones(1), 0.0)
        j = np.arange(k, dtype=np.float64)
        return _from_ratios(0, np.log(k - j) - np.log(j + 1) + np.log(self.q) - np.log1p(-self.q))


def check_k(k: int, n: int) -> None:
    """Raises: InputError: If there cannot be k poisons among n images."""
    if not 0 <= k <= n:
        raise InputError(f"k is {k}: there are 0 to {n} poisons in a set of {n} images (--k)")


def _from_ratios(low: int, ratios: Floats) -> PoisonCounts:
    """Probabilities of low, low + 1, ... from the logarithms of their successive ratios.

    Summed outward from the mode: logarithms of factorials of 10^9 would be wrong in the sixth digit, and so would sums from
    an end be whose terms are e^-10000.
    """
    mode = int(np.count_nonzero(ratios > 0))  # ratios fall, both laws being log-concave
    above = np.cumsum(ratios[mode:])
    below = -np.cumsum(ratios[:mode][::-1])[::-1]
    masses = np.exp(np.concatenate([below, [0.0], above]))
    masses /= masses.sum()
    kept = masses >= _NEGLIGIBLE
    return PoisonCounts(low + kept.nonzero()[0], masses[kept], float(masses[~kept].sum()))
