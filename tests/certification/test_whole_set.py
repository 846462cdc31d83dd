"""The certificate against a rule whose probabilities are known exactly: a threshold halfway between two classes' means."""

from math import sqrt

import numpy as np
import pytest
from scipy.stats import norm

from poison_and_defend.certification import (
    FixedSize,
    bagging_poisons,
    l2_norm,
    largest_k,
    lower_bound,
    set_norm,
    subsampled_set_lower,
    subsampled_set_radius,
    votes_needed,
    whole_set_lower,
    whole_set_radius,
)
from poison_and_defend.certification.rounding import SLACK
from poison_and_defend.core.errors import InputError

SIGMA, POINT = 0.5, 0.45


def halfway(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of noisy sets (models, images): where the two class means are equally far; the point below it is of the first class."""
    return (first.mean(-1) + second.mean(-1)) / 2


@pytest.fixture
def classes() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    return generator.normal(0.3, 0.1, 12), generator.normal(0.8, 0.1, 20)


def spread(first: np.ndarray, second: np.ndarray) -> float:
    """Change of the threshold per unit of the set's norm, in the worst direction."""
    return sqrt(1 / len(first) + 1 / len(second)) / 2


def exact(first: np.ndarray, second: np.ndarray) -> float:
    return float(norm.cdf((halfway(first, second) - POINT) / (SIGMA * spread(first, second))))


def test_the_radius_is_never_above_the_true_one_and_comes_close(classes) -> None:
    truth = float(halfway(*classes) - POINT) / spread(*classes)
    generator = np.random.default_rng(0)
    for models, share in ((100, 0.3), (10_000, 0.9), (100_000, 0.95)):
        votes = 0
        for start in range(0, models, 10_000):
            count = min(10_000, models - start)
            noisy = [images + SIGMA * generator.standard_normal((count, len(images))) for images in classes]
            votes += int((halfway(*noisy) > POINT).sum())
        lower = lower_bound(votes, models, 0.001)
        radius = float(whole_set_radius(lower, 1 - lower, SIGMA))
        assert share * truth < radius <= truth


@pytest.mark.parametrize(("share", "stays"), [(0.999, True), (1.001, False)])
def test_the_worst_change_flips_the_vote_just_beyond_the_radius(classes, share: float, stays: bool) -> None:
    p = exact(*classes)
    radius = float(whole_set_radius(p, 1 - p, SIGMA))
    direction = np.concatenate([np.full(len(images), 0.5 / len(images)) for images in classes])
    change = -share * radius * direction / np.linalg.norm(direction)
    moved = classes[0] + change[: len(classes[0])], classes[1] + change[len(classes[0]) :]
    assert (exact(*moved) > 0.5) is stays
    assert exact(*moved) == pytest.approx(float(whole_set_lower(p, share * radius, SIGMA)), abs=2 * SLACK)


def test_other_changes_of_that_norm_do_less(classes) -> None:
    p, generator = exact(*classes), np.random.default_rng(1)
    for norm_of_change in (0.1, 0.5, 2.0):
        least = float(whole_set_lower(p, norm_of_change, SIGMA))
        for _ in range(50):
            change = generator.standard_normal(32)
            change *= norm_of_change / np.linalg.norm(change)
            assert exact(classes[0] + change[:12], classes[1] + change[12:]) >= least


def test_both_sides_count() -> None:
    assert float(whole_set_radius(0.9, 0.1, 2.0)) == pytest.approx(2 * norm.ppf(0.9))
    assert float(whole_set_radius(0.4, 0.1, 1.0)) == pytest.approx((norm.ppf(0.4) - norm.ppf(0.1)) / 2)
    assert whole_set_radius([0.3, 0.5, 1.0], [0.7, 0.5, 0.0], 1.0).tolist() == [0, 0, np.inf]


def test_budgets_become_norms() -> None:
    assert l2_norm(8 / 255, "linf", (3, 32, 32)) == pytest.approx(8 / 255 * sqrt(3072))
    assert l2_norm(1.5, "l2", (3, 32, 32)) == 1.5
    assert l2_norm(2.0, "linf", (1, 8, 8)) == l2_norm(100.0, "l2", (1, 8, 8)) == 8
    # Twenty-five poisons of 8/255 are outside every usable radius.
    assert set_norm(l2_norm(8 / 255, "linf", (3, 32, 32)), 25) == pytest.approx(8.694, abs=1e-3)
    with pytest.raises(InputError, match=r"eps is -0\.1: a budget is at least 0"):
        l2_norm(-0.1, "l2", (1, 8, 8))


def test_infinite_changes_leave_nothing() -> None:
    assert whole_set_lower([0.0, 0.5, 1.0], np.inf, 1.0).tolist() == [0, 0, 0]
    assert whole_set_lower(1.0, 1.0, 1e-310) == 0
    assert subsampled_set_lower([0.5, 1.0], np.inf, 1.0, 0.1).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("claim", "told"),
    [
        (lambda: whole_set_lower(0.5, -1.0, 1.0), "the set's change is -1: a norm is at least 0"),
        (lambda: subsampled_set_lower(0.9, -1.0, 1.0, 0.5), "the set's change is -1"),
        (lambda: whole_set_lower(0.5, 1.0, np.inf), "sigma is inf"),
        (lambda: whole_set_lower(1.5, 1.0, 1.0), "probabilities are from 0 to 1"),
        (lambda: whole_set_radius(0.9, -0.2, 0.5), "probabilities are from 0 to 1"),
        (lambda: subsampled_set_radius(1.5, 1.0, 0.5), "probabilities are from 0 to 1"),
        (lambda: subsampled_set_radius(0.4, 1.0, 2.0), "the chance to be in a subsample is 2"),
        (lambda: largest_k(1.5, 1.0, 0.5, FixedSize(10, 1)), "probabilities are from 0 to 1"),
        (lambda: bagging_poisons(1.5, 0.0, 10, 1), "probabilities are from 0 to 1"),
        (lambda: votes_needed(0.001, 1.0), "the probability is 1"),
    ],
)
def test_what_is_none_is_refused(claim, told: str) -> None:
    with pytest.raises(InputError, match=told):
        claim()


def test_no_noise_certifies_nothing() -> None:
    with pytest.raises(InputError, match="sigma is 0: without noise"):
        whole_set_radius(0.9, 0.1, 0.0)
