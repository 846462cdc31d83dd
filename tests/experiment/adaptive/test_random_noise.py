"""The floor of every attack."""

import torch

from poison_and_defend.attacks import BullseyePolytope, HiddenTrigger
from poison_and_defend.attacks.threat.surrogate import CraftBatch
from poison_and_defend.attacks.threat.trigger import PatchTrigger
from poison_and_defend.experiment.adaptive.random_noise import RandomNoise

BASES = torch.full((2, 3, 1, 8, 8), 0.5)
BATCH = CraftBatch(BASES, torch.zeros(2, 3, dtype=torch.int64), BASES[:, :1], (5, 6))


def test_noise_is_as_large_as_the_budget_and_each_setups_own() -> None:
    found, objective = RandomNoise(BullseyePolytope(0.1)).perturb(BATCH, [], lambda value: None)
    torch.testing.assert_close((found - BASES).abs(), torch.full_like(BASES, 0.1))
    assert not torch.equal(found[0], found[1]) and objective.tolist() == [0, 0]
    found, _ = RandomNoise(BullseyePolytope(0.5, norm="l2")).perturb(BATCH, [], lambda value: None)
    torch.testing.assert_close((found - BASES).flatten(2).norm(dim=-1), torch.full((2, 3), 0.5))


def test_goal_and_trigger_are_those_of_the_attack() -> None:
    own = HiddenTrigger(0.1, trigger=PatchTrigger(size=3))
    noise = RandomNoise(own)
    assert (noise.goal, noise.trigger.settings()) == (own.goal, own.trigger.settings())
    assert noise.arguments()["name"] == "random_noise"
