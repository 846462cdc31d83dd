"""Fixtures of the rooms that run experiments: small ones on digits."""

from pathlib import Path
from typing import Any

import pytest
import torch

from poison_and_defend.attacks import BullseyePolytope
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.callbacks.ensemble_scores import Score
from poison_and_defend.core.options import from_flat
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.experiment.steps.protect import Sanitized
from poison_and_defend.experiment.steps.victims import train_victims
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.experiment.task.plan import ExperimentPlan, plan_experiment
from poison_and_defend.lightning_modules.recipe import Recipe
from tests.countermeasures import arms


def blank_poisons(plan: ExperimentPlan) -> list[PoisonSet]:
    """Poisons that nobody crafted: every dark enough value is nine levels brighter."""
    train, test = plan.data.split("train"), plan.data.split("test")
    sets = []
    for setup in plan.setups:
        bases = train.images[torch.from_numpy(setup.base_indices)]
        poisons = bases + (bases < 200).to(torch.uint8) * 9
        sets.append(PoisonSet(setup, poisons, bases, test.images[setup.target_index], plan.attack.budget))
    return sets


@pytest.fixture(scope="session")
def digits() -> DigitsDataModule:
    return DigitsDataModule()


@pytest.fixture
def experiment(digits: DigitsDataModule, tmp_path: Path):
    """A small experiment on digits, changed by keyword."""

    def build(**changes: Any) -> Experiment:
        options: dict[str, Any] = {
            "data": digits,
            "attack": BullseyePolytope("64/255", steps=2),
            "num_setups": 2,
            "num_poisons": 5,
            "arms": arms(["no_attack", "none"]),
            "feature_recipe": Recipe(epochs=1),
            "victim_recipe": Recipe(epochs=2, optimizer="adam", learning_rate=0.01),
            "output_dir": str(tmp_path),
            "name": "small",
            "wandb_project": None,
        }
        return from_flat(Experiment, options | changes)

    return build


@pytest.fixture
def plan(experiment):
    """The same, planned."""
    return lambda **changes: plan_experiment(experiment(**changes))


def scored(plan: ExperimentPlan, victim: str, sets: list[PoisonSet], sanitized: dict[str, Sanitized]) -> list[Score]:
    """Scores of all arms, one after the other."""
    found: list[Score] = []
    arms = list(plan.arms.values())
    train_victims(plan, victim, sets, arms, sanitized, Ranks(), keep=lambda one: found.extend(one.scores))
    return found
