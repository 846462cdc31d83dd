"""The joint certificate: k poisons of l2 norm at most eps each, against models that each see a noisy subsample.

Ours, from two known parts: subsampling hides most poisons from most models (bagging: Jia, Cao, Gong, AAAI 2021), noise hides
what the others change (Cohen et al., 2019; Hong et al., 2024). Relatives: BagFlip (Zhang et al., NeurIPS 2022), hierarchical
randomized smoothing (Scholten et al., NeurIPS 2023), group privacy under subsampling (Schuchardt et al., NeurIPS 2024).
`docs/explain/certificates.md` derives it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from poison_and_defend.certification.confidence import check_probabilities
from poison_and_defend.certification.rounding import Floats, lowered, raised
from poison_and_defend.certification.sampling import PoisonCounts, Sampling
from poison_and_defend.certification.whole_set import check_sigma
from poison_and_defend.core.errors import InputError

_FAR = 80.0
"""Shifts of more standard deviations than this leave nothing (Phi(-40) is 1e-350): such subsamples are the attacker's."""

_HALVINGS = 200


def joint_lower(p: ArrayLike, k: int, eps: ArrayLike, sigma: float, sampling: Sampling, trigger: float = 0.0) -> Floats:
    """The least that a class's probability can become when k training images move by at most eps each.

    Theorem: let every model draw its own subsample S, add its own v_i ~ N(0, sigma^2 I) to the images of S alone, and be
    trained by any rule that sees the training set only through S, the noisy images of S and all labels. If its answer is a
    class with probability p on D, it is that class with at least the returned probability on every D' that differs from D in
    at most k images, each by at most eps in l2. With h the law of J, how many of those k are in S, and
    mu_j = eps sqrt(j) / sigma:

        p = sum_j h(j) Phi(t / mu_j + mu_j / 2),    bound = sum_j h(j) Phi(t / mu_j - mu_j / 2)

    where the terms of j = 0 are 0 for t < 0, h(0) for t > 0, and the same share of h(0) in both at t = 0. It is attained, so
    that nothing better can be said without knowing the rule. Bisection, dropped masses and far shifts err on the attacker's
    side, and so does what is taken off for rounding (:data:`poison_and_defend.certification.rounding.SLACK`).

    Args:
        p: Probabilities on D, or lower bounds of them, in [0, 1], (B,) or a number.
        k: How many images change, at most.
        eps: By how much each, in [0, 1] pixel units, at least 0, may be infinite; (B,) or a number. See
            :func:`poison_and_defend.certification.budgets.l2_norm` for linf budgets.
        sigma: Standard deviation of the noise in [0, 1] pixel units, above 0.
        sampling: How subsamples are drawn.
        trigger: Besides, the test image moves by so many standard deviations of noise that every model adds to it by itself
            before it answers: mu_j is then the root of eps^2 j / sigma^2 + trigger^2, and no subsample is untouched.

    Raises:
        InputError: If an argument is outside its range.
    """
    given, radius = np.broadcast_arrays(np.asarray(p, np.float64), np.asarray(eps, np.float64))
    found = np.empty(given.shape)
    # Sums near 1 have lost the digits of their distance from 1, to which the bound may be a billion times as sensitive.
    near_one = given > 0.5
    found[~near_one] = _transport(given[~near_one], k, radius[~near_one], sigma, sampling, trigger, 1)
    found[near_one] = 1 - _transport(1 - given[near_one], k, radius[near_one], sigma, sampling, trigger, -1)
    return found


def joint_upper(p: ArrayLike, k: int, eps: ArrayLike, sigma: float, sampling: Sampling, trigger: float = 0.0) -> Floats:
    """The most that a class's probability can become; errs upwards as the other downwards. See :func:`joint_lower`.

    It is 1 - joint_lower(1 - p), computed without the cancellation.
    """
    return _transport(p, k, eps, sigma, sampling, trigger, -1)


def needed_probability(k: int, eps: ArrayLike, sigma: float, sampling: Sampling, trigger: float = 0.0) -> Floats:
    """The probability on D above which k changes of eps cannot take a class below 1/2: joint_lower(p) > 1/2 iff p is above it.

    One number for all test images, since the worst case is symmetric: it is the most that 1/2 can become.
    """
    return joint_upper(0.5, k, eps, sigma, sampling, trigger)


def _transport(
    p: ArrayLike, k: int, eps: ArrayLike, sigma: float, sampling: Sampling, trigger: float, sign: Literal[1, -1]
) -> Floats:
    """Solve for t and evaluate the other sum; ``sign`` -1 exchanges the two shifts, which is the test that maximizes."""
    check_sigma(sigma)
    given, radius = np.broadcast_arrays(np.asarray(p, np.float64), np.asarray(eps, np.float64))
    if not (radius >= 0).all():
        raise InputError(f"eps is {radius.min():g}: a budget is at least 0 (--eps)")
    check_probabilities(given)
    if not 0 <= trigger < np.inf:
        raise InputError(f"the trigger is {trigger:g} standard deviations of the test image's noise: finite, and at least 0")
    flat, shifts = given.ravel(), radius.ravel()
    masses = _masses(shifts, sigma, sampling.poison_counts(k), trigger, sign)
    found = _other_sum(masses, flat)
    # Gaussians a finite distance apart have the same null sets; those infinitely far apart share nothing.
    still = ((k == 0) | (shifts == 0)) & (trigger == 0)
    exact = still | (np.isfinite(shifts) & ((flat == 0) | (flat == 1)))
    bounded = np.minimum(lowered(found), flat) if sign == 1 else np.maximum(raised(found), flat)
    answer: Floats = np.where(exact, flat, bounded).reshape(given.shape)
    return answer


@dataclass(frozen=True, eq=False)
class _Masses:
    """The two sums of the theorem as functions of t, for B pairs of p and eps.

    Attributes:
        h: ``(B, J)``: chances of 1 .. J poisons in a subsample, and of none if there is a trigger; 0 where their shift is far.
        mu: ``(B, J)``: the shifts, in standard deviations.
        free: h(0), the mass that nothing touches; 0 if there is a trigger.
        before: ``(B,)``: mass of the sum that is given, and that no t reaches.
        after: ``(B,)``: the same of the other sum. All that is far is in one of the two.
        sign: 1 to minimize the other sum, -1 to maximize it.
    """

    h: Floats
    mu: Floats
    free: float
    before: Floats | float
    after: Floats | float
    sign: Literal[1, -1]

    def given(self, t: Floats) -> Floats:
        """The sum that is to be p, without h(0)."""
        return self._sum(t, self.sign * self.mu / 2) + self.before

    def other(self, t: Floats) -> Floats:
        """The sum that is the bound, without h(0)."""
        return self._sum(t, -(self.sign * self.mu / 2)) + self.after

    def _sum(self, t: Floats, shift: Floats) -> Floats:
        total: Floats = (self.h * ndtr(t[:, None] / self.mu + shift)).sum(1)
        return total

    def places(self, p: ArrayLike) -> Floats:
        """``(B, J)``: the t at which single terms of the sum that is given reach probabilities ``(B,)``."""
        found: Floats = self.mu * (ndtri(p)[:, None] - self.sign * self.mu / 2)
        return found


def _masses(eps: Floats, sigma: float, counts: PoisonCounts, trigger: float, sign: Literal[1, -1]) -> _Masses:
    touched = counts.numbers > (-1 if trigger else 0)
    with np.errstate(invalid="ignore"):
        mu = np.hypot(_product(eps[:, None], np.sqrt(counts.numbers[touched])) / sigma, trigger)
    far = ~(mu <= _FAR)
    h = np.where(far, 0.0, counts.masses[touched])
    rest = counts.rest + (counts.masses[touched] * far).sum(1)
    # An unnoticeable shift, so as not to divide by zero; larger than the true one, hence on the safe side.
    mu = np.clip(np.where(far, 1.0, mu), 1e-9, None)
    before, after = (rest, 0.0) if sign == 1 else (0.0, rest)
    return _Masses(h, mu, float(counts.masses[~touched].sum()), before, after, sign)


def _product(eps: Floats, root: Floats) -> Floats:
    """Eps sqrt(j), and 0 of no poison whatever its size."""
    return np.where(root == 0, 0.0, eps * np.maximum(root, 1e-300))


def _other_sum(masses: _Masses, p: Floats) -> Floats:
    """The other sum at the t at which the given one is p; what is unbounded is all that can be taken or given."""
    zero, free = np.zeros_like(p), masses.free
    below = masses.given(zero)
    # Between t = 0- and t = 0+ the mass that no poison touches is shared out.
    at_zero = masses.other(zero) + np.clip(p - below, 0, free)
    left, right = p < below, p > below + free
    low, high = _bracket(masses, p, left, right)
    solvable = (left | right) & np.isfinite(low) & np.isfinite(high)
    t = _bisect(masses, p, np.where(solvable, low, 0), np.where(solvable, high, 0))
    solved = masses.other(t) + np.where(right, free, 0)
    limit = np.where(left, masses.after, 1.0 - masses.before)
    return np.where(left | right, np.where(solvable, solved, limit), at_zero)


def _bracket(masses: _Masses, p: Floats, left: NDArray[np.bool_], right: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Where t lies, between those of single terms: below 0 where p is ``left`` of its sum there, above where ``right``."""
    low_p = np.clip((p - masses.before) / (1 - np.minimum(masses.before, 1 - 1e-16)), 0, 1)
    high_p = np.clip(p / (1 - np.minimum(masses.after, 1 - 1e-16)), 0, 1)
    low = np.where(left, np.min(masses.places(low_p), 1, initial=0), 0)
    return low, np.where(right, np.max(masses.places(high_p), 1, initial=0), 0)


def _bisect(masses: _Masses, p: Floats, low: Floats, high: Floats) -> Floats:
    """The end of the last interval that errs on the attacker's side."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if ((middle <= low) | (middle >= high)).all():
            break
        enough = masses.given(middle) + np.where(middle > 0, masses.free, 0) > p
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return low if masses.sign == 1 else high
