"""Every result says what its own victim's score, setup and arm say."""

from dataclasses import replace

import pytest

from poison_and_defend.callbacks.ensemble_scores import Score
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import (
    DPSGD,
    ActivationClustering,
    Chain,
    DeepKNN,
    Mixup,
    NoiseOnly,
    Partition,
    PerfectFilter,
    RandomFilter,
    SpectralSignatures,
)
from poison_and_defend.experiment.task.kept_arms import KeptArms
from poison_and_defend.experiment.task.results import make_results
from poison_and_defend.reports.records import Result
from tests.small_experiments import blank_poisons

SCORES = [
    Score(1, "own", True, 4, 3, 7, 0.12345678, 0.87654321, withstands=2, certified={"1": 0.5}, models=10),
    Score(0, "own", False, 5, 1, 9, 0.25, 0.75, withstands=0, certified={"1": 0.25}, models=10),
]


def test_scores_find_their_own_setups_whatever_their_order(plan) -> None:
    own = plan(arms={"own": NoiseOnly(0.25)})
    sets = [replace(one, objective=0.5 + number) for number, one in enumerate(blank_poisons(own))]
    found = make_results(own, "convnet", own.arms["own"], sets, SCORES, [], 1.23456)
    assert [result.setup for result in found] == [1, 0]
    for result, score in zip(found, SCORES, strict=True):
        setup = own.setups[score.setup]
        assert (result.target_index, result.target_label, result.adversarial_label, result.seed) == (
            setup.target_index,
            setup.target_label,
            setup.adversarial_label,
            setup.seed,
        )
        assert (result.success, result.predicted, result.successes, result.trials) == (
            score.success,
            score.predicted,
            score.successes,
            score.trials,
        )
        # Six digits are kept, and three of the seconds.
        rounded = {0.12345678: 0.123457, 0.87654321: 0.876543}
        assert (result.clean_accuracy, result.source_accuracy) == tuple(
            rounded.get(value, value) for value in (score.clean_accuracy, score.source_accuracy)
        )
        assert (result.objective, result.num_poisons, result.seconds) == (0.5 + score.setup, 5, 1.235)
        assert (result.norm, result.eps, result.sigma, result.defense) == ("linf", 64 / 255, 0.25, "own")
        assert (result.attack, result.victim, result.knowledge, result.goal) == (
            "bullseye_polytope",
            "convnet",
            "white box",
            "targets",
        )
        assert (result.dataset, result.scenario, result.surrogates, result.visible_trigger) == (
            "digits",
            "transfer",
            ["convnet"],
            False,
        )
        # No vote, no filter and plain training have nothing to say.
        assert (result.models, result.recipe, result.told, result.auroc, result.unproved) == (1, "", "", None, None)


def test_what_filters_dropped_is_told_in_the_order_of_the_scores(plan) -> None:
    own = plan(arms={"own": SpectralSignatures()})
    dropped = [
        {"auroc": 0.9, "poisons_dropped": 1.0, "clean_dropped": 0.1},
        {"auroc": 0.4, "poisons_dropped": 0.0, "clean_dropped": 0.2},
    ]
    found = make_results(own, "convnet", own.arms["own"], blank_poisons(own), SCORES, dropped, 1.0)
    assert [(one.auroc, one.poisons_dropped, one.clean_dropped) for one in found] == [(0.9, 1.0, 0.1), (0.4, 0.0, 0.2)]
    assert found[0].told == own.arms["own"].told(own.told) and found[0].told


def test_a_vote_tells_its_models_and_what_they_prove_unless_a_filter_voids_it(plan) -> None:
    own = plan(arms={"own": Chain([Mixup(), Partition(10)]), "void": Chain([SpectralSignatures(), Partition(10)])})
    sets = blank_poisons(own)
    first, second = make_results(own, "convnet", own.arms["own"], sets, SCORES, [], 1.0)
    assert (first.models, first.recipe, first.withstands, first.certified, first.unproved) == (10, "mixup", 2, {"1": 0.5}, None)
    assert (second.withstands, second.certified) == (0, {"1": 0.25})
    void = make_results(own, "convnet", own.arms["void"], sets, SCORES, [], 1.0)[0]
    assert (void.models, void.withstands, void.certified) == (10, None, {})
    assert "spectral_signatures looked at the whole set" in void.unproved


def test_an_arm_is_called_what_its_name_does_not_say(plan) -> None:
    own = plan(arms={"mine": NoiseOnly(0.1), "noise_only": NoiseOnly(0.25)})
    sets = blank_poisons(own)
    mine, usual = (make_results(own, "convnet", own.arms[name], sets, SCORES, [], 1.0)[0] for name in ("mine", "noise_only"))
    assert (usual.label, usual.color) == (None, None)
    assert mine.color == NoiseOnly.color


def test_a_recipe_tells_what_is_known_of_it_and_what_it_dropped_of_what_a_filter_left(plan) -> None:
    own = plan(arms={"own": DPSGD(), "after": Chain([SpectralSignatures(), DPSGD()])})
    scores = [replace(score, poisons_dropped=0.5, clean_dropped=0.1) for score in SCORES]
    found = make_results(own, "convnet", own.arms["own"], blank_poisons(own), scores, [], 1.0)
    # Two epochs of 1198 rows: the sum of a changed row's moves, of which five may meet.
    assert found[0].facts["epsilon"] > 0 and found[0].facts["shuffled_guess_bound"] == 1 and found[0].recipe == "dp_sgd"
    assert (found[0].poisons_dropped, found[0].clean_dropped) == (0.5, 0.1)
    assert "facts" in found[0].to_json() and Result.read(found[0].to_json()) == found[0]
    dropped = [{"auroc": 0.9, "poisons_dropped": 0.8, "clean_dropped": 0.1}] * 2
    after = make_results(own, "convnet", own.arms["after"], blank_poisons(own), scores, dropped, 1.0)
    assert (after[0].poisons_dropped, after[0].clean_dropped, after[0].facts) == (0.9, 0.19, {})
    assert "facts" not in after[0].to_json()


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([SpectralSignatures()], "5 poisons of a class at most"),
        ([SpectralSignatures(bound=3)], "3 poisons of a class at most"),
        ([DeepKNN()], "5 poisons of a class at most"),
        ([DeepKNN(7)], ""),
        ([ActivationClustering()], ""),
        ([PerfectFilter()], "which rows are poisoned"),
        ([ActivationClustering(), RandomFilter(), SpectralSignatures(factor=1.0)], "5 poisons of a class at most"),
        ([RandomFilter(bound=2), PerfectFilter()], "2 poisons of a class at most; which rows are poisoned"),
    ],
)
def test_what_filters_were_told_is_what_they_could_know(plan, steps, told: str) -> None:
    own = plan(arms={"own": Chain(steps)})
    assert {one.told for one in make_results(own, "convnet", own.arms["own"], blank_poisons(own), SCORES, [], 1.0)} == {told}


def test_results_of_a_filter_that_is_told_nothing_stand_whatever_others_are_told(plan) -> None:
    for steps, stands in (([DeepKNN(7)], True), ([DeepKNN(7), RandomFilter()], False)):
        own, other = (plan(arms={f"of_{len(steps)}": Chain(steps)}, poisons_told=told) for told in (5, 2))
        (arm,) = own.arms.values()
        KeptArms(own).save(arm, "convnet", make_results(own, "convnet", arm, blank_poisons(own), SCORES, [], 1.0))
        assert KeptArms(own).read(arm, "convnet") is not None
        if stands:
            assert KeptArms(other).read(arm, "convnet") is not None
        else:
            with pytest.raises(InputError, match=r"told: 5, now 2.*--arms.of_2_2"):
                KeptArms(other).read(arm, "convnet")
