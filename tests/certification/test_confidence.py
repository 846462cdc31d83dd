from itertools import product

import numpy as np
import pytest
from scipy import stats

from poison_and_defend.certification import lower_bound, upper_bound, vote_bounds, votes_needed, whole_set_radius
from poison_and_defend.certification.rounding import SLACK
from poison_and_defend.core.errors import InputError


@pytest.mark.parametrize("alpha", [0.05, 0.001, 1e-9])
@pytest.mark.parametrize("trials", [1, 10, 1000, 100_000])
def test_bounds_are_those_of_the_exact_binomial_test(trials: int, alpha: float) -> None:
    for successes in {0, 1, trials // 3, trials - 1, trials}:
        for alternative, bound in (("greater", lower_bound), ("less", upper_bound)):
            interval = stats.binomtest(successes, trials, alternative=alternative).proportion_ci(1 - alpha, method="exact")
            expected = interval.low if alternative == "greater" else interval.high
            assert float(bound(successes, trials, alpha)) == pytest.approx(expected, rel=1e-7, abs=2 * SLACK)


def test_radii_of_unanimous_and_nearly_unanimous_votes() -> None:
    expected = {100: (1.500, 1.014, 0.757), 1000: (2.463, 1.440, 1.114), 10_000: (3.199, 1.580, 1.229)}
    for trials, radii in expected.items():
        lower = lower_bound([trials, trials * 95 // 100, trials * 9 // 10], trials, 0.001)
        assert np.round(whole_set_radius(lower, 1 - lower, 1.0), 3).tolist() == list(radii)


@pytest.mark.parametrize("p", [0.5, 0.9, 0.99])
def test_bounds_err_at_most_alpha_of_the_time(p: float, generator: np.random.Generator) -> None:
    votes = generator.binomial(100, p, 2000)
    for alpha in (0.1, 0.01):
        # A correct bound errs more often than this once in a million runs.
        allowed = stats.binom.isf(1e-6, 2000, alpha)
        assert (lower_bound(votes, 100, alpha) > p).sum() <= allowed
        assert (upper_bound(votes, 100, alpha) < p).sum() <= allowed
    # And they are not idle, where a hundred votes can err: unanimity only promises .977.
    assert p > 0.977 or (lower_bound(votes, 100, 0.1) > p).sum() > 40


def test_the_winner_is_not_chosen_and_bounded_by_the_same_votes_for_free(generator: np.random.Generator) -> None:
    """Ten equally likely classes: whichever leads, its bound is wrong as seldom as promised, and wrong too often unpaid."""
    votes = generator.multinomial(200, [0.1] * 10, 2000)
    allowed = stats.binom.isf(1e-6, 2000, 0.05)
    assert (vote_bounds(votes, 0.05).winner > 0.1).sum() <= allowed
    unpaid = lower_bound(votes.max(1), 200, 0.05)
    assert (unpaid > 0.1).sum() > allowed
    fresh = generator.multinomial(200, [0.1] * 10, 2000)
    assert (vote_bounds(fresh, 0.05, selection=votes).winner > 0.1).sum() <= allowed


@pytest.mark.parametrize("fresh", [False, True])
def test_all_bounds_of_an_image_hold_together(fresh: bool, generator: np.random.Generator) -> None:
    p = np.array([0.4, 0.35, 0.25])
    votes = generator.multinomial(300, p, 2000)
    other = generator.multinomial(300, p, 2000) if fresh else None
    bounds = vote_bounds(votes, 0.05, selection=other, runner_up=True)
    strongest = np.array([max(np.delete(p, label)) for label in bounds.labels])
    wrong = (bounds.winner > p[bounds.labels]) | (bounds.others < strongest)
    assert wrong.sum() <= stats.binom.isf(1e-6, 2000, 0.05)


def test_alpha_is_shared_among_the_bounds_that_must_hold() -> None:
    votes = np.array([[70, 20, 10]])
    cases = {(False, False): 2, (True, False): 1, (False, True): 6, (True, True): 3}
    for (fresh, runner_up), count in cases.items():
        found = vote_bounds(votes, 0.03, selection=votes if fresh else None, runner_up=runner_up)
        assert found.winner == pytest.approx(lower_bound([70], 100, 0.03 / count))
        others = min(float(upper_bound(20, 100, 0.03 / count)), 1 - found.winner[0]) if runner_up else 1 - found.winner[0]
        assert found.others == pytest.approx([others])


@pytest.mark.parametrize(("models", "classes", "alpha"), [(10, 3, 0.1), (12, 4, 0.1), (7, 5, 0.3)])
def test_claims_of_a_majority_are_wrong_with_chance_alpha_at_most(
    models: int, classes: int, alpha: float, generator: np.random.Generator
) -> None:
    """Exactly, over all votes, for many laws of the models: among them those that are worst for a class and for all."""
    counts = np.array([c for c in product(range(models + 1), repeat=classes) if sum(c) == models])
    bounds = vote_bounds(counts, alpha)
    assert ((bounds.winner == 0) | (bounds.winner > 0.5)).all()
    laws = [*generator.dirichlet(np.full(classes, 0.5), 60), *generator.dirichlet(np.full(classes, 5.0), 20)]
    for first in (0.5, 0.499, 0.55, *np.unique(bounds.winner[bounds.winner > 0] - 1e-9)):
        laws += [
            np.array([first, 1 - first, *[0.0] * (classes - 2)]),
            np.array([first, *[(1 - first) / (classes - 1)] * (classes - 1)]),
        ]
    wrong = [stats.multinomial.pmf(counts, models, law / law.sum())[bounds.winner > law[bounds.labels]].sum() for law in laws]
    assert max(wrong) <= alpha
    # Not by far less, votes being whole numbers; and at alpha for each class they would be wrong too often.
    assert 0.3 * alpha < max(wrong)
    unpaid = lower_bound(counts.max(1), models, alpha)
    false = (unpaid > 0.5) & (counts.max(1) / models > 0.5)
    assert stats.multinomial.pmf(counts, models, np.array([0.5, 0.5, *[0.0] * (classes - 2)]))[false].sum() > alpha


def test_what_a_thousand_unanimous_votes_are_worth_at_the_alpha_that_ships() -> None:
    bounds = vote_bounds([[1000, *[0] * 9]], 0.001)
    assert whole_set_radius(bounds.winner, bounds.others, 1.0)[0] == pytest.approx(2.43, abs=0.005)


def test_a_runner_up_bound_can_certify_less_than_half() -> None:
    votes = np.array([[450, 200, 200, 150]])
    assert vote_bounds(votes, 0.001).winner[0] < 0.5
    bounds = vote_bounds(votes, 0.001, runner_up=True)
    assert bounds.winner[0] > bounds.others[0]


@pytest.mark.parametrize(
    ("alpha", "probability"), [(0.001, 0.5), (0.05, 0.5), (0.25, 0.5), (0.5, 0.5), (1e-6, 0.99), (0.001, 1 - 1e-6)]
)
def test_votes_needed_is_the_least_number_that_can_certify(alpha: float, probability: float) -> None:
    count = votes_needed(alpha, probability)
    assert float(lower_bound(count, count, alpha)) > probability
    assert count == 1 or float(lower_bound(count - 1, count - 1, alpha)) <= probability + 1e-15


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: lower_bound(1, 2, 0.0), "alpha is 0: the chance of a wrong certificate"),
        (lambda: upper_bound(1, 2, 1.0), "alpha is 1"),
        (lambda: votes_needed(float("nan")), "alpha is nan"),
        (lambda: lower_bound(3, 2, 0.1), "counts from 0 to the number of models"),
        (lambda: lower_bound(0, 0, 0.1), "of at least one model"),
        (lambda: vote_bounds(np.ones(3), 0.1), r"shape \(3,\)"),
        (lambda: vote_bounds(np.ones((2, 3)), 0.1, selection=np.ones((3, 3))), r"selecting votes \(3, 3\)"),
        (lambda: vote_bounds([[1, 2], [3, 4]], 0.1), "images have 3 to 7 votes"),
    ],
)
def test_bad_votes_are_refused(call, text: str) -> None:
    with pytest.raises(InputError, match=text):
        call()
