"""The checks as a whole, on a small experiment: what is changed in each run, what is said in the end, and that it resumes."""

import json

import pytest

from poison_and_defend.attacks import BullseyePolytope
from poison_and_defend.core.errors import InputError
from poison_and_defend.experiment.adaptive.run import run_checks
from poison_and_defend.experiment.adaptive.runs import plan_runs
from poison_and_defend.experiment.adaptive.task import NAMES, CheckOptions
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.training.launch import Launch
from tests.countermeasures import arms

LAUNCH = Launch(accelerator="cpu", devices=1)


@pytest.fixture
def adaptive(experiment, denoiser_folder):
    """An attacker who knows a small denoiser, changed by keyword."""

    def build(**changes):
        options = {
            "attack": BullseyePolytope("64/255", steps=4, learning_rate=0.1), "knowledge": "defense", "known_draws": 1,
            "known_held_out": 2, "denoiser": denoiser_folder, "sigma": 0.1, "arms": arms(["no_attack", "none", "diffusion"]),
        }  # fmt: skip
        return experiment(**{**options, **changes})

    return build


def test_each_run_changes_one_thing(adaptive) -> None:
    runs = plan_runs(adaptive(), CheckOptions())
    plans = {name: run.plan for name, run in runs.by_name.items()}
    assert (runs.known, runs.undefended, runs.no_attack) == ("diffusion", "none", "no_attack")
    eps = {name: plan.attack.budget.eps for name, plan in plans.items()}
    assert [eps.pop(name) for name in ("unbounded", "eps_half", "eps_double")] == [1, 32 / 255, 128 / 255]
    assert set(eps.values()) == {64 / 255}
    assert [len(plans[name].setups[0].base_indices) for name in ("adaptive", "poisons_half")] == [5, 2]
    assert [plans[name].arms["diffusion"].sigma for name in ("sigma_half", "adaptive", "sigma_double")] == [0.05, 0.1, 0.2]
    assert plans["steps_quarter"].attack.steps == 1 and plans["draws_other"].known.draws == 4
    assert plans["plain"].known is None and plans["random_noise"].known is None
    assert {plan.attack.steps for name, plan in plans.items() if name not in ("steps_quarter", "random_noise")} == {4}
    # Setups are the same everywhere, or nothing could be paired.
    assert len({tuple(setup.target_index for setup in plan.setups) for plan in plans.values()}) == 1


def test_runs_that_no_check_needs_are_left_out(adaptive) -> None:
    assert set(plan_runs(adaptive(), CheckOptions([4, 5, 10])).by_name) == {"adaptive"}
    assert set(plan_runs(adaptive(), CheckOptions([9, 6])).by_name) == {"adaptive", "plain", "hole"}


def test_without_a_budget_an_attack_may_have_more_steps_in_an_experiment_of_its_own(adaptive) -> None:
    runs = plan_runs(adaptive(), CheckOptions([2], unbounded_steps=30))
    plan = runs.by_name["unbounded"].plan
    assert plan.attack.steps == 30 and plan.attack.budget.eps == 1 and runs.base.attack.steps == 4
    assert plan.folder.name == "unbounded_30"
    assert plan_runs(adaptive(), CheckOptions([2], unbounded_steps=4)).by_name["unbounded"].plan.folder.name == "unbounded"
    with pytest.raises(InputError, match=r"unbounded_steps is 0: it must be at least 1 \(--unbounded_steps\)"):
        CheckOptions([2], unbounded_steps=0)


@pytest.mark.parametrize(
    ("changes", "checks", "told"),
    [
        ({"knowledge": "oblivious"}, [1], r"knowledge is oblivious.*\(--knowledge defense\)"),
        ({"known_held_out": 0}, [4], r"known_held_out is 0.*\(--known_held_out 64\)"),
        ({"name": None}, [1], r"name the checks.*\(--name\)"),
    ],
)
def test_what_cannot_be_checked_is_refused(changes, checks, told, adaptive) -> None:
    with pytest.raises(InputError, match=told):
        plan_runs(adaptive(**changes), CheckOptions(checks))


# The quick ones need no experiment but the one that is checked.
@pytest.mark.parametrize("checks", [[5, 10], pytest.param(list(NAMES), marks=pytest.mark.slow)])
def test_verdicts_are_written_and_made_once(checks, adaptive, tmp_path, capsys) -> None:
    options = CheckOptions(checks, control_setups=1, spsa_samples=1, unbounded_steps=60)
    experiment = adaptive(
        attack=BullseyePolytope("128/255", steps=8, learning_rate=0.1),
        num_poisons=50,
        feature_recipe=Recipe(epochs=3),
        victim_recipe=Recipe(epochs=20, optimizer="adam", learning_rate=0.01),
    )
    found = {check.number: check for check in run_checks(experiment, options, LAUNCH, "{}")}
    assert list(found) == checks
    wanted = {1: "pass", 2: "pass", 5: "pass", 10: "fail", 11: "pass"}
    assert {number: found[number].verdict for number in wanted if number in found}.items() <= wanted.items(), found
    assert 2 not in found or "in 60 steps" in found[2].measured
    assert 3 not in found or len(found[3].numbers["points"]) == 12
    written = json.loads((tmp_path / "small" / "adaptive_checks.json").read_text())
    assert [check["number"] for check in written["checks"]] == checks
    assert "craft" in capsys.readouterr().err
    again = {check.number: check for check in run_checks(experiment, options, LAUNCH, "{}")}
    assert "craft" not in capsys.readouterr().err and again == found
