import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from poison_and_defend.attacks.threat.budget import Budget
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.attacks.threat.trigger import Trigger
from poison_and_defend.core.errors import InputError

rng = np.random.default_rng(0)
TRAIN = torch.from_numpy(rng.integers(20, 236, (8, 1, 4, 4)).astype(np.uint8))
TRAIN_LABELS = torch.tensor([0, 1, 1, 0, 1, 2, 2, 1])
TEST_LABELS = torch.tensor([1, 0, 2])
TARGET = torch.from_numpy(rng.integers(0, 256, (1, 4, 4)).astype(np.uint8))
SETUP = Setup(3, 2**62 + 1, 2, 2, 1, np.array([4, 1, 7]))
BASES = TRAIN[[4, 1, 7]]
BUDGET = Budget("linf", 8 / 255)


def make(**changes: Any) -> PoisonSet:
    parts = {"setup": SETUP, "images": BASES + 8, "bases": BASES, "target": TARGET, "budget": BUDGET}
    return PoisonSet(**parts | {"attack": {"name": "test", "eps": 8 / 255}, "objective": 0.25} | changes)


def test_a_poison_at_the_edge_of_the_budget_is_accepted() -> None:
    assert len(make().images) == 3
    assert len(make(images=BASES - 8, budget=Budget("l2", 8 / 255 * 4)).images) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": BASES + 9}, r"3 poisons leave the budget, linf distance 0\.03529 above eps 0\.03137"),
        ({"budget": Budget("l2", 8 / 255 * 3.99)}, r"3 poisons leave the budget, l2"),
        ({"images": torch.cat([BASES[:2], BASES[2:] + 9])}, "1 poisons leave the budget"),
        ({"images": BASES.float()}, "poisons are torch.float32"),
        ({"bases": BASES.int()}, "bases are torch.int32"),
        ({"images": BASES[0]}, r"poisons are torch.uint8 of shape \(1, 4, 4\)"),
        ({"images": BASES[:2]}, "2 poisons, 3 bases and 3 base indices"),
        ({"images": BASES[:2], "bases": BASES[:2]}, "2 poisons, 2 bases and 3 base indices"),
        ({"images": BASES[..., :3]}, "3 poisons"),
        ({"images": BASES[:0], "bases": BASES[:0], "setup": replace(SETUP, base_indices=np.array([], np.int64))}, "empty"),
        ({"target": TARGET.float()}, "target is torch.float32"),
        ({"target": TARGET[None]}, "target is torch.uint8"),
        ({"setup": replace(SETUP, target_label=1)}, "both of class 1"),
    ],
)
def test_what_is_not_a_poison_set_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"setup 3.*{message}"):
        make(**changes)


# Setup 3 wants class 2 to be read as class 1; the others are neither.
MANY_LABELS = torch.tensor([2, 0, 1, 3, 2, 1, 2])
MANY = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (7, 1, 4, 4)).astype(np.uint8))
WHITE = Trigger(torch.full((1, 2, 2), 255, dtype=torch.uint8), "bottom_right")


@pytest.mark.parametrize(
    ("goal", "rows"), [("targets", [2, 6]), ("source", [0, 4, 6]), ("others", [0, 1, 3, 4, 6])], ids=lambda value: str(value)
)
def test_success_is_counted_over_the_targets_the_source_class_or_all_but_the_wanted_class(goal: str, rows: list[int]) -> None:
    trigger = None if goal == "targets" else WHITE
    whole = make(goal=goal, trigger=trigger, setup=replace(SETUP, more_targets=(6,)))
    assert whole.trials(MANY_LABELS).tolist() == rows
    tested, expected = whole.tested_images(MANY, MANY_LABELS), MANY[rows].clone()
    if trigger is not None:
        expected[:, :, 2:, 2:] = 255
    assert torch.equal(tested, expected)


def test_each_tested_image_has_the_trigger_at_a_place_of_its_own_row() -> None:
    trigger = replace(WHITE, placement="random", seed=5)
    tested = make(goal="source", trigger=trigger).tested_images(MANY, MANY_LABELS)
    for image, row in zip(tested, (0, 4, 6), strict=True):
        assert torch.equal(image, trigger.stamp(MANY[row][None], torch.tensor([row]))[0])


def test_the_data_it_was_made_for_is_accepted() -> None:
    make().check_against(TRAIN, TRAIN_LABELS, TEST_LABELS)


@pytest.mark.parametrize(
    ("train", "labels", "test_labels", "message"),
    [
        (TRAIN[:7], TRAIN_LABELS[:7], TEST_LABELS, "row 7 is outside the 7 training images"),
        (TRAIN, TRAIN_LABELS.roll(1), TEST_LABELS, "a base is not of class 1"),
        (TRAIN, TRAIN_LABELS, TEST_LABELS[:2], "test image 2 is not of class 2"),
        (TRAIN, TRAIN_LABELS, TEST_LABELS.flip(0), "test image 2 is not of class 2"),
        (TRAIN.flip(-1), TRAIN_LABELS, TEST_LABELS, "not this data set's images"),
        (TRAIN[..., :3], TRAIN_LABELS, TEST_LABELS, "not this data set's images"),
    ],
)
def test_other_data_is_refused(train: torch.Tensor, labels: torch.Tensor, test_labels: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=rf"setup 3.*{message}"):
        make().check_against(train, labels, test_labels)


def test_a_negative_base_index_is_refused() -> None:
    with pytest.raises(InputError, match="outside the 8 training images"):
        make(setup=replace(SETUP, base_indices=np.array([4, 1, -1]))).check_against(TRAIN, TRAIN_LABELS, TEST_LABELS)


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 5], [0, 99, 4, 1, 7]], ids=["bases are not last", "row out of bounds"])
def test_training_rows_that_do_not_end_in_the_bases_are_refused(rows: list[int]) -> None:
    poisons = make(setup=replace(SETUP, train_rows=np.array(rows)))
    with pytest.raises(InputError):
        poisons.check_against(TRAIN, TRAIN_LABELS, TEST_LABELS)


@pytest.mark.parametrize("rows", [None, np.array([0, 3, 4, 1, 7])])
def test_parts_survive_json_and_tensors(rows: np.ndarray | None) -> None:
    whole = make(setup=replace(SETUP, train_rows=rows))
    again = PoisonSet.from_parts(json.loads(json.dumps(whole.to_record())), whole.to_tensors())
    for name in ("images", "bases", "target"):
        assert torch.equal(getattr(again, name), getattr(whole, name))
    assert (again.budget, again.attack, again.objective) == (whole.budget, whole.attack, whole.objective)
    for name, value in vars(whole.setup).items():
        np.testing.assert_array_equal(getattr(again.setup, name), value)


def test_an_unknown_objective_survives() -> None:
    whole = make(objective=math.nan)
    assert math.isnan(PoisonSet.from_parts(json.loads(json.dumps(whole.to_record())), whole.to_tensors()).objective)


def test_tensors_are_contiguous_copies_of_the_indices() -> None:
    whole = make(target=TARGET.transpose(1, 2))
    tensors = whole.to_tensors()
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    tensors["base_indices"] += 1
    assert whole.setup.base_indices.tolist() == [4, 1, 7]


@pytest.mark.parametrize("key", ["setup", "seed", "target_index", "target_label", "adversarial_label", "norm", "eps", "attack"])
def test_a_missing_or_foreign_field_is_refused(key: str) -> None:
    whole = make()
    record = whole.to_record()
    with pytest.raises(InputError):
        PoisonSet.from_parts({k: v for k, v in record.items() if k != key}, whole.to_tensors())
    with pytest.raises(InputError):
        PoisonSet.from_parts(record | {key: None}, whole.to_tensors())


@pytest.mark.parametrize("key", ["poisons", "bases", "target", "base_indices"])
def test_a_missing_array_is_refused(key: str) -> None:
    whole = make()
    with pytest.raises(InputError, match=key):
        PoisonSet.from_parts(whole.to_record(), {k: v for k, v in whole.to_tensors().items() if k != key})


def test_loading_checks_the_budget_again() -> None:
    whole = make()
    with pytest.raises(InputError, match="leave the budget"):
        PoisonSet.from_parts(whole.to_record(), whole.to_tensors() | {"poisons": BASES + 9})


def test_a_triggers_place_survives_and_is_the_corner_in_records_that_do_not_say_it() -> None:
    for place in ((1, 2), (0, 0)):
        whole = make(goal="source", trigger=replace(WHITE, placement="fixed", place=place, amplitude=0.5))
        record = json.loads(json.dumps(whole.to_record()))
        if place == (0, 0):
            del record["trigger"]["place"]
        again = PoisonSet.from_parts(record, whole.to_tensors())
        assert torch.equal(again.trigger.pattern, WHITE.pattern) and again.trigger.settings() == whole.trigger.settings()
        assert (again.goal, again.visible_trigger) == ("source", False)


def test_a_visible_trigger_is_no_part_of_the_budget_and_everything_else_is() -> None:
    own = {"goal": "others", "trigger": WHITE}
    stamped = BASES + 8
    stamped[:, :, 2:, 2:] = 255
    assert make(images=stamped, visible_trigger=True, **own).visible_trigger
    with pytest.raises(InputError, match="leave the budget"):
        make(images=stamped, **own)
    stamped[1, 0, 1, 1] = BASES[1, 0, 1, 1] + 9
    with pytest.raises(InputError, match="1 poisons leave the budget"):
        make(images=stamped, visible_trigger=True, **own)


def test_the_first_rows_of_a_data_set_are_rows_like_others() -> None:
    setup = replace(SETUP, target_index=0, target_label=1, adversarial_label=0, base_indices=np.array([3, 0]))
    own = make(setup=setup, images=TRAIN[[3, 0]] + 8, bases=TRAIN[[3, 0]])
    own.check_against(TRAIN, TRAIN_LABELS, TEST_LABELS)
    replace(own, setup=replace(setup, train_rows=np.array([7, 3, 0]))).check_against(TRAIN, TRAIN_LABELS, TEST_LABELS)
    with pytest.raises(InputError, match="test image 1 is not of class 1"):
        replace(own, setup=replace(setup, more_targets=(1,))).check_against(TRAIN, TRAIN_LABELS, TEST_LABELS)
