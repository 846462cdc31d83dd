from types import SimpleNamespace

import numpy as np
import torch

from poison_and_defend.attacks.threat.budget import Budget
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.attacks.threat.trigger import Trigger
from poison_and_defend.callbacks.ensemble_scores import Watch, evaluate

LABELS = torch.tensor([0, 1, 1, 2, 2, 2])


class Recorded:
    """Members whose predictions are written down: the inputs are row numbers, triggered ones count from 100."""

    device = torch.device("cpu")

    def __init__(self, clean: list[list[int]], triggered: list[list[int]]) -> None:
        self.table = {0: torch.tensor(clean), 1: torch.tensor(triggered)}

    def member_predictions(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.table[int(inputs[0] >= 100)][:, inputs % 100]


def poisons(goal: str, more: tuple[int, ...] = ()) -> PoisonSet:
    setup = Setup(4, 0, 1, 1, 2, np.array([0]), None, more)
    images = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    trigger = None if goal == "targets" else Trigger(torch.zeros(1, 2, 2, dtype=torch.uint8), "bottom_right")
    return PoisonSet(setup, images, images, images[0], Budget("linf", 0.1), {}, 0.0, trigger, goal)


def score(own: PoisonSet, clean: list[int], triggered: list[int]):
    inputs = torch.arange(6)
    watch = Watch([(4, "none")], [own], inputs, None if own.trigger is None else inputs + 100, LABELS)
    module: SimpleNamespace = Recorded([clean], [triggered])  # type: ignore[assignment]
    return evaluate(module, watch)[0]  # type: ignore[arg-type]


def test_a_target_is_one_trial_and_success_means_the_wanted_class() -> None:
    hit = score(poisons("targets"), [0, 2, 1, 2, 2, 0], [])
    assert (hit.success, hit.predicted, hit.successes, hit.trials) == (True, 2, 1, 1)
    assert hit.clean_accuracy == np.float32(4 / 6) and hit.source_accuracy == 0.5
    # Misread, but not as the attacker wants.
    miss = score(poisons("targets"), [0, 0, 1, 2, 2, 2], [])
    assert (miss.success, miss.predicted, miss.successes) == (False, 0, 0)


def test_several_targets_are_counted_apart_from_the_first() -> None:
    found = score(poisons("targets", more=(2,)), [0, 1, 2, 2, 2, 2], [])
    assert (found.success, found.successes, found.trials) == (False, 1, 2)


def test_a_backdoor_is_counted_over_triggered_source_images_and_accuracy_over_clean_ones() -> None:
    found = score(poisons("source"), [0, 1, 1, 2, 2, 2], [2, 1, 2, 2, 2, 2])
    assert (found.success, found.predicted, found.successes, found.trials) == (False, 1, 1, 2)
    assert found.clean_accuracy == found.source_accuracy == 1


def test_an_all_to_one_backdoor_leaves_out_the_adversarial_class() -> None:
    found = score(poisons("others"), [0, 1, 1, 2, 2, 2], [2, 2, 1, 2, 2, 2])
    assert (found.successes, found.trials, found.success) == (2, 3, True)
