"""From numbers to verdicts: each check passes where it should, and fails on either side of its bound."""

import pytest

from poison_and_defend.experiment.adaptive import verdicts
from poison_and_defend.experiment.adaptive.curves import Curve, Point, beyond_noise, monotone
from poison_and_defend.experiment.adaptive.verdicts import Course

ALL, NONE = [1.0] * 4, [0.0] * 4


def test_identity_allows_rounding_alone() -> None:
    assert verdicts.identity(0.001, 3).verdict == "pass"
    assert verdicts.identity(0.0011, 2).verdict == "fail"


def test_an_attack_without_a_budget_must_nearly_always_succeed() -> None:
    assert verdicts.unbounded([1.0] * 9 + [0.0]).verdict == "pass"
    assert verdicts.unbounded([1.0] * 8 + [0.0] * 2).verdict == "fail"


def test_a_difference_is_beyond_noise_when_all_of_few_setups_agree_and_not_when_one_does() -> None:
    assert (beyond_noise(ALL, NONE), beyond_noise(NONE, ALL), beyond_noise([1, 0, 0, 0], NONE)) == (1, -1, 0)
    assert beyond_noise(ALL, ALL) == 0


def points(*means: float, spread: float = 0.01, rates=None) -> list[Point]:
    objectives = [[mean + spread * place for place in (-1, 0, 1, 2)] for mean in means]
    return [Point(number, rates or [0, 1, 0, 1], own) for number, own in enumerate(objectives)]


def test_a_curve_that_goes_the_wrong_way_beyond_noise_fails() -> None:
    assert monotone([Curve("eps", points(0.9, 0.5, 0.3), must=True)]).verdict == "pass"
    found = monotone([Curve("eps", points(0.9, 0.3, 0.5), must=True)])
    assert found.verdict == "fail" and "eps: 2 is weaker than 1" in found.measured
    # Of noise, less is better for the attacker.
    assert monotone([Curve("sigma", points(0.3, 0.5), helps=False)]).verdict == "pass"
    assert monotone([Curve("sigma", points(0.5, 0.3), helps=False)]).verdict == "fail"


def test_success_that_falls_fails_without_any_objective() -> None:
    assert monotone([Curve("steps", [Point(5, ALL), Point(20, NONE)])]).verdict == "fail"
    assert monotone([Curve("steps", [Point(5, ALL), Point(20, [1, 1, 0, 1])])]).verdict == "pass"


def test_a_flat_curve_over_eps_fails_and_over_draws_does_not() -> None:
    flat = points(0.5, 0.5)
    assert monotone([Curve("draws", flat)]).verdict == "pass"
    assert monotone([Curve("eps", flat, must=True)]).verdict == "fail"
    # Where every setup succeeds at once there is nothing to gain.
    assert monotone([Curve("eps", points(0.5, 0.5, rates=ALL), must=True)]).verdict == "pass"


def test_without_any_curve_nothing_was_measured() -> None:
    found = monotone([], ["sigma 0.5 (too much)"])
    assert found.verdict == "not measured" and "sigma 0.5 (too much)" in found.measured


def course(quarter: float, half: float, end: float, optimised: float, start: float = 1.0) -> list[Course]:
    return [Course(start, quarter + own, half + own, end + own, optimised + own) for own in (0.0, 0.001, 0.002)]


def test_convergence_is_flat_in_the_end_and_near_the_optimised_objective() -> None:
    assert verdicts.converged(course(0.5, 0.35, 0.3, 0.3)).verdict == "pass"
    assert verdicts.converged(course(0.8, 0.6, 0.3, 0.3)).verdict == "fail"
    assert verdicts.converged(course(0.5, 0.35, 0.3, 0.2)).verdict == "fail"
    assert verdicts.converged(course(1.0, 1.0, 1.0, 1.0)).verdict == "fail"
    # Far above in the mean, but no more than the setups vary.
    varied = [Course(1.0, 0.4, 0.3, 0.3, own) for own in (0.1, 0.4, 0.25)]
    assert verdicts.converged(varied).verdict == "pass"


def test_a_gradient_has_as_many_digits_as_its_precision() -> None:
    assert verdicts.gradient(0.009, "float32", 16).verdict == "pass"
    assert verdicts.gradient(0.05, "float32", 16).verdict == "fail"
    assert verdicts.gradient(0.05, "bfloat16", 16).verdict == "pass"
    missing = verdicts.gradient(float("inf"), "float32", 16)
    assert missing.verdict == "fail" and missing.numbers["error"] is None


def test_a_hole_must_be_found_by_nearly_all_and_a_weak_attack_tells_nothing() -> None:
    assert verdicts.hole([1.0] * 9 + [0.0], [1.0] * 10).verdict == "pass"
    assert verdicts.hole([1.0] * 8 + [0.0] * 2, [1.0] * 10).verdict == "fail"
    assert verdicts.hole(NONE, [0.0, 0, 0, 1]).verdict == "not measured"


def test_without_gradients_nobody_may_do_better_and_the_gradient_must_do_something() -> None:
    assert verdicts.gradient_free([1.0], [0.3], [0.6], "").verdict == "pass"
    assert verdicts.gradient_free([1.0], [0.6], [0.3], "").verdict == "fail"
    assert verdicts.gradient_free([1.0], [1.1], [1.2], "").verdict == "fail"


def test_the_floor_is_noise_and_the_plain_attack_and_the_best_is_a_method() -> None:
    assert verdicts.floor([1, 0, 0, 0], NONE, NONE).verdict == "pass"
    assert verdicts.floor(NONE, NONE, [1, 0, 0, 0]).verdict == "fail"
    assert verdicts.floor(NONE, ALL, NONE).verdict == "fail"
    found = verdicts.floor([1, 0, 0, 0], [0, 1, 1, 0], NONE)
    assert found.verdict == "pass" and (found.numbers["best"], found.numbers["best_method"]) == (0.5, "plain")


def test_poisons_must_poison_without_the_defence() -> None:
    assert verdicts.still_poisons(ALL, NONE).verdict == "pass"
    assert verdicts.still_poisons([1, 0, 0, 0], NONE).verdict == "fail"


@pytest.mark.parametrize(("setups", "paired", "verdict"), [(20, True, "pass"), (19, True, "fail"), (20, False, "fail")])
def test_twenty_paired_setups_are_enough(setups: int, paired: bool, verdict: str) -> None:
    found = verdicts.enough({"convnet": 0, "linear": 1}, setups, paired)
    assert found.verdict == verdict and "2 victims a setup" in found.measured
    if setups == 20:
        assert "convnet: 0 of 20, 0% to 17%" in found.measured


@pytest.mark.parametrize(
    ("found", "verdict"),
    [((0, 8, 1, 1), "pass"), ((1, 8, 1, 1), "fail"), ((0, 8, 2, 1), "pass"), ((0, 8, 1, 2), "fail")],
)
def test_rows_are_purified_once_and_counted_once(found, verdict: str) -> None:
    assert verdicts.purified_once(*found).verdict == verdict
