from fractions import Fraction
from math import comb, prod

import numpy as np
import pytest
from scipy import stats

from poison_and_defend.certification import FixedSize, Poisson, Sampling
from poison_and_defend.core.errors import InputError


def listed(sampling: Sampling, k: int) -> dict[int, float]:
    counts = sampling.poison_counts(k)
    return dict(zip(counts.numbers.tolist(), counts.masses.tolist(), strict=True))


@pytest.mark.parametrize(("n", "m", "k"), [(10, 3, 4), (10, 8, 5), (30, 30, 7), (50, 1, 50), (600, 60, 25)])
def test_fixed_size_by_counting_subsets(n: int, m: int, k: int) -> None:
    exact = {j: comb(k, j) * comb(n - k, m - j) / comb(n, m) for j in range(min(k, m) + 1) if m - j <= n - k}
    assert listed(FixedSize(n, m), k) == pytest.approx({j: p for j, p in exact.items() if p > 1e-25}, rel=1e-12)


def test_a_billion_images_keep_all_digits() -> None:
    n, m, k = 10**9, 10**8 + 7, 20

    def exact(j: int) -> Fraction:
        chosen = prod(m - i for i in range(j)) * prod(n - m - i for i in range(k - j))
        return Fraction(comb(k, j) * chosen, prod(n - i for i in range(k)))

    for j, mass in listed(FixedSize(n, m), k).items():
        assert mass == pytest.approx(float(exact(j)), rel=1e-12)


def test_ten_thousand_poisons_among_a_billion_have_the_right_moments() -> None:
    n, m, k = 10**9, 10**8, 10**4
    counts = FixedSize(n, m).poison_counts(k)
    mean = k * m / n
    assert counts.masses.sum() + counts.rest == pytest.approx(1, abs=1e-12)
    assert counts.rest < 1e-20
    assert (counts.masses * counts.numbers).sum() == pytest.approx(mean, rel=1e-12)
    variance = mean * (1 - m / n) * (n - k) / (n - 1)
    assert (counts.masses * (counts.numbers - mean) ** 2).sum() == pytest.approx(variance, rel=1e-10)


@pytest.mark.parametrize("q", [0.001, 0.3, 0.999, 1.0])
def test_poisson_is_binomial(q: float) -> None:
    for j, mass in listed(Poisson(600, q), 25).items():
        assert mass == pytest.approx(stats.binom.pmf(j, 25, q), rel=1e-10)


def test_all_mass_is_somewhere(sampling: Sampling) -> None:
    for k in (0, 1, 25, 600):
        counts = sampling.poison_counts(k)
        assert counts.masses.sum() + counts.rest == pytest.approx(1, abs=1e-14)
        assert (np.diff(counts.numbers) == 1).all()
        assert counts.numbers.min() >= 0
        assert counts.numbers.max() <= k


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: FixedSize(600, 601), "m is 601: a subsample holds 1 to 600"),
        (lambda: FixedSize(600, 0), "m is 0"),
        (lambda: Poisson(600, 0.0), "q is 0"),
        (lambda: Poisson(600, float("nan")), "q is nan"),
        (lambda: FixedSize(600, 10).poison_counts(601), "k is 601: there are 0 to 600 poisons"),
        (lambda: Poisson(600, 0.1).poison_counts(-1), "k is -1"),
    ],
)
def test_impossible_samples_are_refused(make, text: str) -> None:
    with pytest.raises(InputError, match=text):
        make()


@pytest.mark.parametrize("rule", [FixedSize(60, 12), Poisson(60, 0.2)], ids=str)
def test_draws_follow_the_law_that_certificates_use(rule: Sampling, generator: np.random.Generator) -> None:
    draws = [rule.draw(generator) for _ in range(20_000)]
    assert all(len(np.unique(rows)) == len(rows) <= rule.length for rows in draws)
    held = np.bincount([(rows < 9).sum() for rows in draws], minlength=10) / len(draws)
    counts = rule.poison_counts(9)
    expected = np.zeros(len(held))
    expected[counts.numbers[counts.numbers < len(held)]] = counts.masses[counts.numbers < len(held)]
    # Five standard deviations of a share of 20,000.
    assert np.abs(held - expected).max() < 5 * np.sqrt(0.25 / 20_000)
    assert np.abs(np.bincount(np.concatenate(draws), minlength=60) / 20_000 - 0.2).max() < 5 * np.sqrt(0.16 / 20_000)


def test_the_length_of_a_training_set_does_not_depend_on_the_draw() -> None:
    assert FixedSize(60, 12).length == 12
    assert Poisson(10_000, 0.01).length == 160
    assert Poisson(60, 0.99).length == 60
    assert Poisson(10, 1.0).length == 10


def test_a_set_that_is_seen_whole_needs_no_infinite_logarithm() -> None:
    with np.errstate(all="raise"):
        for k in (0, 1, 25):
            counts = Poisson(600, 1.0).poison_counts(k)
            assert (counts.numbers.tolist(), counts.masses.tolist(), counts.rest) == ([k], [1.0], 0.0)
