from typing import Any

import pytest

from poison_and_defend.attacks import WitchesBrew
from poison_and_defend.defenses import Training
from poison_and_defend.lightning_modules.networks.spec import Network
from tests.small_experiments import digits, experiment, plan

__all__ = ["digits", "experiment", "plan", "plan_of"]


@pytest.fixture
def plan_of(plan):
    """A small experiment from scratch with one arm of a training recipe, planned and no more."""

    def planned(defense: Training, **changes: Any):
        attack = WitchesBrew("16/255", steps=1, restarts=1, max_shift=0.0, flip=False)
        return plan(
            **{"arms": {"own": defense}, "attack": attack, "scenario": "from_scratch", "network": Network("patchnet")} | changes
        )

    return planned
