"""The joint bound where the test image moves, too, under noise of its own."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import ndtr, ndtri

from poison_and_defend.certification import FixedSize, Poisson, joint_lower, joint_upper, needed_probability
from poison_and_defend.core.errors import InputError

LEVELS = np.array([1e-6, 0.01, 0.3, 0.5, 0.7, 0.95, 0.999, 1 - 1e-9])


@pytest.mark.parametrize("trigger", [0.01, 0.5, 3.0])
def test_without_poisons_it_is_that_of_a_smoothed_test_image(trigger: float) -> None:
    expected = ndtr(ndtri(LEVELS) - trigger)
    for k, eps in ((0, 1.0), (5, 0.0)):
        assert joint_lower(LEVELS, k, eps, 0.5, FixedSize(600, 40), trigger) == pytest.approx(expected, abs=1e-9)
        assert (joint_lower(LEVELS, k, eps, 0.5, FixedSize(600, 40), trigger) <= expected).all()
    assert needed_probability(0, 1.0, 0.5, FixedSize(600, 40), trigger) == pytest.approx(ndtr(trigger), abs=1e-9)


@pytest.mark.parametrize("sampling", [FixedSize(600, 40), Poisson(600, 0.1)])
@pytest.mark.parametrize(("k", "eps"), [(1, 0.5), (10, 1.0), (10, np.inf)])
def test_it_is_the_dual_of_the_attackers_problem(sampling, k: int, eps: float) -> None:
    """For each multiplier c the bound c p - E[h_c] holds; the best of them, found by other means, is this one."""
    counts, trigger, sigma = sampling.poison_counts(k), 0.4, 0.5
    numbers = np.maximum(counts.numbers, 1e-30)
    mu = np.hypot(np.where(counts.numbers > 0, eps * np.sqrt(numbers) / sigma, 0), trigger)

    def value(log_c: float, p: float) -> float:
        c = np.exp(log_c)
        finite = np.where(np.isfinite(mu), mu, 1.0)
        lost = c * ndtr(log_c / finite + finite / 2) - ndtr(log_c / finite - finite / 2)
        return float(c * p - (counts.masses * np.where(np.isfinite(mu), lost, c)).sum() - counts.rest * c)

    for p in (0.3, 0.7, 0.95, 0.999):
        best = max(-minimize_scalar(lambda t, p=p: -value(t, p), bounds=b, method="bounded", options={"xatol": 1e-10}).fun
                   for b in ((-8, -1), (-2, 1), (0, 3), (2, 9)))  # fmt: skip
        assert float(joint_lower(p, k, eps, sigma, sampling, trigger)) == pytest.approx(max(best, 0), abs=1e-7)


def test_it_falls_in_both_and_its_two_sides_are_mirrors() -> None:
    sampling = FixedSize(600, 40)
    grid = [[float(joint_lower(0.9, k, 1.0, 0.5, sampling, t)) for t in (0.0, 0.1, 0.5, 1.0)] for k in (0, 1, 5, 25)]
    assert (np.diff(grid, axis=0) < 0).all() and (np.diff(grid, axis=1) < 0).all()
    upper = joint_upper(LEVELS, 5, 1.0, 0.5, sampling, 0.3)
    assert upper == pytest.approx(1 - joint_lower(1 - LEVELS, 5, 1.0, 0.5, sampling, 0.3), abs=1e-9)


def test_a_learner_that_votes_on_a_noised_image_keeps_its_promise(generator: np.random.Generator) -> None:
    """The sum of a noised poison, where it was drawn, and of the noised test image: its chances are known in closed form."""
    sampling, sigma, test_sigma, eps, trigger = FixedSize(40, 10), 0.5, 0.4, 1.0, 0.3
    drawn = sampling.poison_counts(1).masses
    for offset in (0.2, 0.8, 1.5):
        spread = [test_sigma, float(np.hypot(sigma, test_sigma))]
        before = sum(mass * ndtr(offset / own) for mass, own in zip(drawn, spread, strict=True))
        moved = [trigger, trigger + eps]
        after = sum(mass * ndtr((offset - by) / own) for mass, by, own in zip(drawn, moved, spread, strict=True))
        bound = float(joint_lower(before, 1, eps, sigma, sampling, trigger / test_sigma))
        assert bound <= after
    with pytest.raises(InputError, match="the trigger is -1 standard deviations"):
        joint_lower(0.9, 1, 1.0, 0.5, sampling, -1.0)
