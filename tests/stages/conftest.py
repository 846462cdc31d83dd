from pathlib import Path
from typing import Any

import pytest

from attacks import BullseyePolytope
from datamodules import DigitsDataModule
from lightning_modules.recipe import Recipe
from stages.experiment import Experiment


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
            "defenses": ["no_attack", "none"],
            "feature_recipe": Recipe(epochs=1),
            "victim_recipe": Recipe(epochs=2, optimizer="adam", learning_rate=0.01),
            "output_dir": str(tmp_path),
            "name": "small",
            "wandb_project": None,
        }
        return Experiment(**options | changes)

    return build
