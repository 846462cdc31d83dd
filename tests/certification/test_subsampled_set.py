"""The whole set's bound under subsampling: against a linear programme, its limits, and every way to spread a change evenly."""

from math import sqrt

import numpy as np
import pytest
from scipy.optimize import linprog, minimize_scalar
from scipy.special import ndtr

from poison_and_defend.certification import (
    FixedSize,
    Poisson,
    joint_lower,
    subsampled_set_lower,
    subsampled_set_radius,
    whole_set_lower,
    whole_set_radius,
)
from poison_and_defend.core.errors import InputError

LEVELS = np.array([1e-12, 0.01, 0.3, 0.5, 0.55, 0.7, 0.95, 0.999, 1 - 1e-9])


def programme(p: float, change: float, sigma: float, inclusion: float) -> float:
    """The same bound from the definition: for each multiplier the worst law of W is found by a linear programme on a grid."""
    grid = np.unique(np.concatenate([np.linspace(0, 1, 1500) ** 3, [inclusion]])) * change**2
    mu = np.sqrt(np.maximum(grid, 1e-18)) / sigma

    def value(log_c: float) -> float:
        c = np.exp(log_c)
        gains = c * ndtr(log_c / mu + mu / 2) - ndtr(log_c / mu - mu / 2)
        gains[0] = max(c - 1, 0)
        worst = linprog(-gains, A_ub=[grid], b_ub=[inclusion * change**2], A_eq=[np.ones_like(grid)], b_eq=[1])
        return float(c * p + worst.fun)

    coarse = np.linspace(-6, 7, 66)
    best = coarse[np.argmax([value(x) for x in coarse])]
    found = minimize_scalar(lambda x: -value(x), bounds=(best - 0.2, best + 0.2), method="bounded", options={"xatol": 1e-7})
    return max(-float(found.fun), 0.0)


@pytest.mark.parametrize(
    ("p", "change", "inclusion"),
    [
        (0.9, 1.0, 0.3),
        (0.9, 3.0, 0.05),
        (0.99, 6.0, 0.05),
        (0.7, 5.0, 0.01),
        (0.6, 0.4, 0.5),
        (0.4, 1.0, 0.1),
        (0.999, 12.0, 0.02),
    ],
)
def test_a_linear_programme_finds_the_same(p: float, change: float, inclusion: float) -> None:
    found = float(subsampled_set_lower(p, change * 0.5, 0.5, inclusion))
    expected = programme(p, change * 0.5, 0.5, inclusion)
    # The grid of the programme misses the worst law by a little, which can only raise its bound.
    assert expected - 2e-5 <= found <= expected + 1e-9


def test_all_images_sampled_is_the_whole_set() -> None:
    for change in (0.0, 0.3, 2.0):
        assert subsampled_set_lower(LEVELS, change, 0.5, 1.0) == pytest.approx(whole_set_lower(LEVELS, change, 0.5), abs=1e-12)
        near = subsampled_set_lower(LEVELS, change, 0.5, 1 - 1e-9)
        assert near == pytest.approx(whole_set_lower(LEVELS, change, 0.5), abs=1e-7)


def test_it_is_between_the_whole_set_and_an_even_change_of_every_image() -> None:
    for inclusion in (0.001, 0.05, 0.5):
        for change in (0.1, 1.0, 4.0):
            found = subsampled_set_lower(LEVELS, change, 0.5, inclusion)
            assert (found >= whole_set_lower(LEVELS, change, 0.5)).all()
            assert (found <= whole_set_lower(LEVELS, sqrt(inclusion) * change, 0.5) + 1e-12).all()
            assert (found <= LEVELS).all()


def test_it_is_never_above_the_joint_bound_of_an_even_spread_over_k_images() -> None:
    """Those are some of the changes that it must withstand."""
    generator = np.random.default_rng(0)
    for _ in range(30):
        n = int(generator.integers(20, 3000))
        m, k = int(generator.integers(1, n)), int(generator.integers(1, n + 1))
        p, eps = generator.uniform(0.5, 0.9999), generator.uniform(0.05, 4) * 0.5 / sqrt(max(1, k * m / n))
        bound = float(subsampled_set_lower(p, eps * sqrt(k), 0.5, m / n))
        for sampling in (FixedSize(n, m), Poisson(n, m / n)):
            assert bound <= float(joint_lower(p, k, eps, 0.5, sampling)) + 1e-9


def test_uneven_changes_do_less_than_the_bound_allows() -> None:
    """Random splits of a change over images, their exact optimum by Neyman and Pearson from a simulated law of W."""
    generator = np.random.default_rng(1)
    n, m, sigma, p, draws = 40, 8, 0.5, 0.9, 400_000
    for change in (0.6, 1.5):
        bound = float(subsampled_set_lower(p, change, sigma, m / n))
        for concentration in (0.05, 0.3, 5.0):
            squares = generator.dirichlet(np.full(n, concentration)) * change**2
            chosen = np.argpartition(generator.random((draws, n)), m, axis=1)[:, :m]
            mu = np.sqrt(squares[chosen].sum(1)) / sigma
            log_ratio = mu * generator.standard_normal(draws) - mu**2 / 2
            kept = log_ratio <= np.quantile(log_ratio, p)
            assert np.exp(log_ratio[kept]).sum() / draws > bound - 5e-3


def test_the_radius_is_where_one_half_is_left() -> None:
    p = np.array([0.2, 0.5, 0.51, 0.8, 0.99, 0.9999])
    for inclusion in (0.002, 0.05, 0.6):
        radii = subsampled_set_radius(p, 0.25, inclusion)
        assert radii[:2].tolist() == [0, 0]
        assert (subsampled_set_lower(p, radii, 0.25, inclusion)[2:] > 0.5).all()
        assert (subsampled_set_lower(p, 1.011 * radii, 0.25, inclusion)[2:] < 0.5).all()
        plain = whole_set_radius(p, 1 - p, 0.25)
        assert (radii >= plain).all()
        assert (radii <= plain / sqrt(inclusion)).all()
    assert subsampled_set_radius(np.zeros((2, 3)), 0.25, 0.1).tolist() == [[0] * 3] * 2


@pytest.mark.parametrize("inclusion", [0.0, 1.5, float("nan")])
def test_a_chance_outside_its_range_is_refused(inclusion: float) -> None:
    with pytest.raises(InputError, match="the chance to be in a subsample is"):
        subsampled_set_lower(0.9, 1.0, 0.5, inclusion)


def test_the_radius_is_half_a_percent_too_small_at_most() -> None:
    p = np.array([0.7, 0.9, 0.99])
    for inclusion in np.linspace(0.975, 0.995, 11):
        found = subsampled_set_radius(p, 0.5, inclusion)
        assert (subsampled_set_lower(p, found, 0.5, inclusion) >= 0.5 - 1e-9).all()
        assert (subsampled_set_lower(p, 1.005 * found, 0.5, inclusion) <= 0.5 + 1e-9).all()
