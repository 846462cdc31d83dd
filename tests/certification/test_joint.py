"""Against the reference's table, limits, simulation, and the dual problem solved by other means."""

from math import sqrt

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import erfc

from poison_and_defend.certification import (
    FixedSize,
    Poisson,
    Sampling,
    joint_lower,
    joint_upper,
    l2_norm,
    needed_probability,
    whole_set_lower,
)
from poison_and_defend.core.errors import InputError

LEVELS = np.array([1e-12, 1e-6, 0.01, 0.3, 0.5, 0.7, 0.95, 0.999, 1 - 1e-9, 1 - 1e-12])
IMAGE = (3, 32, 32)


@pytest.mark.parametrize(
    ("m", "sigma", "expected"),
    [
        (250, 0.5, (0.945, 0.927, 0.841, 0.832)),
        (500, 0.5, (0.941, 0.905, 0.744, 0.728)),
        (500, 1.0, (0.944, 0.920, 0.809, 0.744)),
        (1000, 1.0, (0.938, 0.890, 0.694, 0.580)),
        (5000, 1.0, (0.888, 0.689, 0.220, 0.042)),
        (50000, 1.0, (0.463, 0.012, 0.000, 0.000)),
    ],
)
def test_known_values(m: int, sigma: float, expected: tuple[float, ...]) -> None:
    budgets = ((1, 8), (5, 8), (25, 8), (25, 16))
    found = [float(joint_lower(0.95, k, l2_norm(e / 255, "linf", IMAGE), sigma, FixedSize(50_000, m))) for k, e in budgets]
    assert [round(value, 3) for value in found] == list(expected)


@pytest.mark.parametrize("k", [1, 4, 25])
@pytest.mark.parametrize("eps", [0.01, 0.3, 2.0])
def test_all_images_sampled_is_the_whole_set_certificate(k: int, eps: float) -> None:
    for everything in (FixedSize(600, 600), Poisson(600, 1.0)):
        expected = whole_set_lower(LEVELS, eps * sqrt(k), 0.5)
        assert joint_lower(LEVELS, k, eps, 0.5, everything) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("k", [1, 5, 50])
def test_unbounded_changes_leave_bagging(k: int) -> None:
    sampling = FixedSize(600, 40)
    untouched = stats.hypergeom.pmf(0, 600, k, 40)
    for eps in (1e6, np.inf):
        expected = np.maximum(LEVELS - (1 - untouched), 0)
        assert joint_lower(LEVELS, k, eps, 0.5, sampling) == pytest.approx(expected, abs=1e-9)
    assert float(joint_lower(1.0, k, np.inf, 0.5, sampling)) == pytest.approx(untouched)
    assert float(joint_upper(0.0, k, np.inf, 0.5, sampling)) == pytest.approx(1 - untouched)


def test_nothing_changes_nothing(sampling: Sampling) -> None:
    assert joint_lower(LEVELS, 0, 1.0, 0.5, sampling) == pytest.approx(LEVELS, abs=1e-15)
    assert joint_lower(LEVELS, 25, 0.0, 0.5, sampling).tolist() == LEVELS.tolist()
    assert joint_upper(LEVELS, 25, 0.0, 0.5, sampling).tolist() == LEVELS.tolist()


def test_certain_classes_stay_certain_under_finite_changes(sampling: Sampling) -> None:
    assert joint_lower([0.0, 1.0], 25, 3.0, 0.5, sampling).tolist() == [0, 1]
    assert joint_upper([0.0, 1.0], 25, 3.0, 0.5, sampling).tolist() == [0, 1]


def test_more_attack_leaves_less(sampling: Sampling) -> None:
    by_eps = joint_lower(0.95, 10, np.linspace(0, 5, 60), 0.5, sampling)
    by_k = np.array([joint_lower(0.95, k, 0.4, 0.5, sampling) for k in range(0, 60, 3)])
    by_noise = np.array([joint_lower(0.95, 10, 0.4, s, sampling) for s in (0.05, 0.1, 0.25, 0.5, 1, 2, 8)])
    by_p = joint_lower(np.linspace(0, 1, 101), 10, 0.4, 0.5, sampling)
    assert (np.diff(by_eps) <= 1e-12).all()
    assert (np.diff(by_k) <= 1e-12).all()
    assert (np.diff(by_noise) >= -1e-12).all()
    assert (np.diff(by_p) >= -1e-12).all()


def test_larger_subsamples_hold_more_poisons() -> None:
    bounds = [float(joint_lower(0.95, 10, 0.4, 0.5, FixedSize(600, m))) for m in (1, 5, 20, 80, 300, 600)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > 0.93
    assert bounds[-1] < 0.3


def test_the_upper_bound_mirrors_the_lower(sampling: Sampling) -> None:
    # A double near 1 has lost the digits of its distance from 1, hence not closer to it than this.
    inner = np.array([1e-6, 1e-3, 0.2, 0.5, 0.8, 0.999])
    for k, eps in ((1, 0.1), (10, 0.6), (60, 3.0)):
        mirrored = 1 - joint_lower(1 - inner, k, eps, 0.5, sampling)
        assert joint_upper(inner, k, eps, 0.5, sampling) == pytest.approx(mirrored, abs=1e-9)
        assert (joint_upper(LEVELS, k, eps, 0.5, sampling) >= LEVELS).all()


def test_the_needed_probability_is_the_one_that_ends_at_one_half(sampling: Sampling) -> None:
    for k, eps in ((1, 0.1), (10, 0.3), (60, 0.2)):
        needed = float(needed_probability(k, eps, 0.5, sampling))
        assert float(joint_lower(needed, k, eps, 0.5, sampling)) >= 0.5 - 1e-9
        # Nearer to 1 what is added for rounding is worth more than the rest of the test allows.
        if needed < 1 - 1e-6:
            assert float(joint_lower(needed + 1e-7, k, eps, 0.5, sampling)) > 0.5
            assert float(joint_lower(needed - 1e-7, k, eps, 0.5, sampling)) < 0.5


def dual(p: float, k: int, eps: float, sigma: float, sampling: Sampling) -> float:
    """The least E_Q[phi] with E_P[phi] = p, as the largest over c of c p - E_P[(c - dQ/dP)+]: no test, no root."""
    counts = sampling.poison_counts(k)

    mu = eps * np.sqrt(counts.numbers) / sigma
    free = float(counts.masses[mu == 0].sum())
    masses, mu = counts.masses[mu > 0], mu[mu > 0]

    def value(log_c: float) -> float:
        c = np.exp(log_c)
        kept, paid = (erfc(-(log_c / mu + shift) / sqrt(2)) / 2 for shift in (mu / 2, -mu / 2))
        return float(c * p - free * max(c - 1, 0) - (masses * (c * kept - paid)).sum())

    grid = np.linspace(-60, 25, 1701)
    best = grid[np.argmax([value(x) for x in grid])]
    result = minimize_scalar(lambda x: -value(x), bounds=(best - 0.06, best + 0.06), method="bounded", options={"xatol": 1e-12})
    return max(-float(result.fun), value(best), 0.0)


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9, 0.999])
@pytest.mark.parametrize(("k", "eps", "sigma"), [(1, 0.5, 0.5), (5, 0.2, 0.25), (20, 0.1, 0.5), (20, 1.0, 0.5)])
def test_the_dual_problem_has_the_same_value(p: float, k: int, eps: float, sigma: float) -> None:
    for sampling in (FixedSize(600, 40), Poisson(600, 0.2)):
        found, exact = float(joint_lower(p, k, eps, sigma, sampling)), dual(p, k, eps, sigma, sampling)
        assert found == pytest.approx(exact, abs=1e-8)
        assert found <= exact + 1e-9


def test_simulation_agrees_to_three_decimals(generator: np.random.Generator) -> None:
    """Draw J and the likelihood ratio on D, take the p least ratios, weigh them by the ratio: 24 random settings."""
    draws, checked = 2_000_000, 0
    while checked < 24:
        n = int(generator.integers(50, 5000))
        m, k = int(generator.integers(1, n + 1)), int(generator.integers(1, min(n, 60)))
        sigma, p = float(generator.uniform(0.1, 1)), float(generator.uniform(0.5, 0.999))
        eps = float(generator.uniform(0.2, 2)) * sigma / sqrt(max(1, k * m / n))
        j = generator.hypergeometric(k, n - k, m, draws)
        mu = eps * np.sqrt(j) / sigma
        log_ratio = mu * generator.standard_normal(draws) - mu**2 / 2
        # A test's mass at a shared ratio of exactly 1 is split in the formula; here a tiny jitter splits it.
        order = log_ratio + 1e-9 * generator.random(draws)
        kept = order <= np.quantile(order, p)
        simulated = float(np.exp(log_ratio[kept]).sum() / draws)
        error = float(np.exp(log_ratio[kept]).std() / sqrt(draws))
        assert float(joint_lower(p, k, eps, sigma, FixedSize(n, m))) == pytest.approx(simulated, abs=max(5e-4, 6 * error))
        checked += 1


def test_extremes_stay_finite_and_ordered() -> None:
    sampling = FixedSize(10**9, 10**6)
    for k in (1, 100, 10**4):
        for eps in (1e-9, 1e-3, 1.0, 55.0):
            low, high = (bound(LEVELS, k, eps, 0.25, sampling) for bound in (joint_lower, joint_upper))
            assert np.isfinite([low, high]).all()
            assert ((low >= 0) & (low <= LEVELS) & (high >= LEVELS) & (high <= 1)).all()
            assert (np.diff(low) >= 0).all()
            assert (np.diff(high) >= 0).all()


@pytest.mark.parametrize(
    ("rest", "text"),
    [
        ({"sigma": 0.0}, "sigma is 0: without noise nothing is certified"),
        ({"sigma": float("nan")}, "sigma is nan"),
        ({"eps": -0.1}, "eps is -0.1: a budget is at least 0"),
        ({"eps": float("nan")}, "eps is nan"),
        ({"p": 1.1}, "probabilities are from 0 to 1"),
        ({"k": 601}, "k is 601"),
    ],
)
def test_impossible_arguments_are_refused(rest: dict[str, float], text: str) -> None:
    given = {"p": 0.9, "k": 2, "eps": 0.1, "sigma": 0.5, "sampling": FixedSize(600, 40)} | rest
    with pytest.raises(InputError, match=text):
        joint_lower(**given)
