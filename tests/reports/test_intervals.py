from itertools import product

import numpy as np
import pytest
from scipy import stats

from poison_and_defend.reports.intervals import (
    benchmark_error,
    clopper_pearson,
    mean_interval,
    paired_change,
    paired_interval,
    rate_interval,
    sign_test,
    student_t,
)


@pytest.mark.parametrize("trials", [1, 2, 20, 100])
def test_clopper_pearson_in_closed_form(trials: int) -> None:
    for successes in {0, 1, trials // 3, trials - 1, trials}:
        low = stats.beta.ppf(0.025, successes, trials - successes + 1) if successes else 0.0
        high = stats.beta.ppf(0.975, successes + 1, trials - successes) if successes < trials else 1.0
        assert clopper_pearson(successes, trials) == pytest.approx((low, high), abs=1e-9)


def test_clopper_pearson_covers_the_rate_and_shrinks_with_trials() -> None:
    widths = []
    for trials in (10, 100, 1000):
        low, high = clopper_pearson(trials // 5, trials)
        assert low < 0.2 < high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)


def test_no_success_is_known_by_heart() -> None:
    assert clopper_pearson(0, 20) == pytest.approx((0, 1 - 0.025 ** (1 / 20)))


def test_student_t_is_that_of_a_one_sample_test() -> None:
    rates = [0.2, 0.5, 0.45, 0.7]
    bounds = stats.ttest_1samp(rates, 0).confidence_interval(0.95)
    assert student_t(rates) == pytest.approx((bounds.low, bounds.high))


def test_student_t_stays_within_zero_and_one() -> None:
    assert student_t([0.0, 1.0]) == (0.0, 1.0)


def test_one_trial_a_setup_is_binomial_over_setups() -> None:
    assert rate_interval([1, 0, 1, 1], [1] * 4) == (*clopper_pearson(3, 4), "Clopper-Pearson over setups")


def test_one_setup_is_binomial_over_its_images() -> None:
    assert rate_interval([30], [100]) == (*clopper_pearson(30, 100), "Clopper-Pearson over the images of one setup")


def test_setups_that_differ_more_than_images_do_take_student_t() -> None:
    low, high, method = rate_interval([200, 800, 500], [1000] * 3)
    bounds = stats.ttest_1samp([0.2, 0.8, 0.5], 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((max(0, bounds.low), min(1, bounds.high)))
    assert method == "Student t over setups"


@pytest.mark.parametrize(("successes", "trials"), [([0, 0, 0], [10, 20, 30]), ([10] * 3, [10] * 3), ([4, 4], [10, 10])])
def test_equal_setups_are_as_uncertain_as_their_images(successes: list[int], trials: list[int]) -> None:
    low, high, method = rate_interval(successes, trials)
    assert (low, high) == pytest.approx(clopper_pearson(sum(successes), sum(trials)))
    assert method == "Student t over setups, widened to Clopper-Pearson over images"


def test_setups_of_unequal_size_keep_their_mean_inside() -> None:
    # Pooled, the rate is 0.01; the mean over setups is 0.5.
    low, high, _ = rate_interval([10, 0, 9], [10, 1000, 18])
    assert low <= 0.0 + 1e-12
    assert low < 0.5 < high


@pytest.mark.parametrize(
    ("hits", "setups", "variance"),
    [
        (50, 100, 0.25 / 100),
        (30, 100, 0.3 * 0.7 / 100),
        (6, 100, 0.06 * 0.94 / 100),
        (94, 100, 0.94 * 0.06 / 100),
        (5, 100, 0.25 / 100),
        (95, 100, 0.25 / 100),
        (0, 100, 0.25 / 100),
        (100, 100, 0.25 / 100),
        (4, 8, 0.25 / 8),
        (6, 20, 0.3 * 0.7 / 20),
    ],
)
def test_the_benchmarks_error_bar(hits: int, setups: int, variance: float) -> None:
    assert benchmark_error(hits, setups) ** 2 == pytest.approx(variance)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([0.1, 0.2, 0.3], (3, 0, 1 / 8)),
        ([1, 1, 1, 1, 1, 0, 0, 0], (5, 0, 1 / 32)),
        ([1, -1, 0], (1, 1, 3 / 4)),
        ([-1.0, -0.5], (0, 2, 1.0)),
        ([0, 0], (0, 0, 1.0)),
    ],
)
def test_the_sign_test_by_hand(changes: list[float], expected: tuple[int, int, float]) -> None:
    assert sign_test(changes) == pytest.approx(expected)


def test_the_sign_test_counts_all_outcomes_of_fair_coins() -> None:
    for higher in range(9):
        changes = [1] * higher + [-1] * (8 - higher)
        extreme = sum(sum(coins) >= higher for coins in product((0, 1), repeat=8))
        assert sign_test(changes)[2] == pytest.approx(extreme / 2**8)


def test_a_paired_change_is_the_share_after_less_that_before() -> None:
    outcomes = [(True, True)] * 5 + [(True, False)] * 3 + [(False, True)] * 1 + [(False, False)] * 1
    found = paired_change(outcomes)
    assert (found["n"], found["before"], found["after"], found["change"]) == (10, 0.8, 0.6, pytest.approx(-0.2))
    assert (found["low"], found["high"]) == pytest.approx(paired_interval(10, -0.2, 0.4))


@pytest.mark.parametrize(("up", "down", "same"), [(1, 3, 6), (0, 0, 20), (40, 5, 55), (1, 0, 0), (0, 3, 0)])
def test_a_paired_interval_is_walds_with_a_half_added_to_each_count(up: int, down: int, same: int) -> None:
    n = up + down + same
    counts = np.array([up + 0.5, down + 0.5, same + 1.0])
    shares = counts / counts.sum()
    mean = shares[0] - shares[1]
    margin = stats.norm.ppf(0.975) * np.sqrt((shares[0] + shares[1] - mean**2) / counts.sum())
    found = paired_interval(n, (up - down) / n, (up + down) / n)
    assert found == pytest.approx((max(-1, mean - margin), min(1, mean + margin)), abs=1e-6)


def test_a_means_interval_is_not_clipped() -> None:
    values = [0.0, 1.0, 0.1]
    bounds = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert bounds.low < 0 and mean_interval(values) == pytest.approx((bounds.low, bounds.high))
