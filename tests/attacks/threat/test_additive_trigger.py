import json

import pytest
import torch
from torch import Tensor

from poison_and_defend.attacks.threat.additive_trigger import AdditiveTrigger
from poison_and_defend.attacks.threat.budget import Budget
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.core.errors import InputError
from poison_and_defend.poisons.files import load_poisons, save_poisons

SHAPE = (3, 5, 4)
generator = torch.Generator().manual_seed(2)
PATTERN = torch.randint(-16, 17, SHAPE, generator=generator).to(torch.int16)
IMAGES = torch.randint(0, 256, (6, *SHAPE), generator=generator).to(torch.uint8)


def stamped(images: Tensor, scale: float) -> list[int]:
    """One value at a time, in Python's own numbers; halves go to the even level, as they do in torch."""
    pattern = PATTERN.flatten().tolist() * len(images)
    return [
        min(255, max(0, value + round(level * scale))) for value, level in zip(images.flatten().tolist(), pattern, strict=True)
    ]


@pytest.mark.parametrize("scale", [1.0, 3.0, 0.5, 2.7, 255.0])
def test_tested_images_carry_the_scaled_pattern_clipped(scale: float) -> None:
    trigger = AdditiveTrigger(PATTERN, scale)
    found = trigger.stamp(IMAGES, torch.arange(6))
    assert found.dtype == torch.uint8 and found.flatten().tolist() == stamped(IMAGES, scale)
    assert (found == 0).any() and (found == 255).any()
    assert torch.equal(found, trigger.stamp(IMAGES, torch.arange(6) + 100))


def test_floats_get_the_same_as_bytes() -> None:
    trigger = AdditiveTrigger(PATTERN, 2.7)
    found = trigger.stamp(IMAGES.float() / 255, torch.arange(6))
    assert found.dtype == torch.float32
    assert torch.equal((found * 255).round().to(torch.uint8), trigger.stamp(IMAGES, torch.arange(6)))


def test_poisons_carry_the_pattern_itself() -> None:
    assert AdditiveTrigger(PATTERN, 3.0).poison(IMAGES).flatten().tolist() == stamped(IMAGES, 1.0)


@pytest.mark.parametrize(
    ("pattern", "scale", "match"),
    [
        (PATTERN.to(torch.uint8), 1.0, "uint8"),
        (PATTERN[0], 1.0, r"int16 of shape \(5, 4\)"),
        (PATTERN[:, :0], 1.0, r"shape \(3, 0, 4\)"),
        (torch.full(SHAPE, 256, dtype=torch.int16), 1.0, "256 levels: at most 255"),
        (torch.full(SHAPE, -(2**15), dtype=torch.int16), 1.0, "32768 levels: at most 255"),
        *((PATTERN, scale, "test_scale is .*above 0 and at most 255") for scale in (0.0, -1, float("nan"), float("inf"), 256)),
        *((PATTERN, scale, "test_scale is .*a number") for scale in ("3", None, True, [3.0])),
    ],
)
def test_what_is_no_trigger_is_refused(pattern: Tensor, scale, match: str) -> None:
    with pytest.raises(InputError, match=match):
        AdditiveTrigger(pattern, scale)


def test_triggers_are_compared_by_what_they_do() -> None:
    own = AdditiveTrigger(PATTERN, 3.0)
    assert own.equals(AdditiveTrigger(PATTERN.clone(), 3))
    assert not own.equals(AdditiveTrigger(PATTERN, 2.0)) and not own.equals(AdditiveTrigger(-PATTERN, 3.0))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_whole_levels_of_a_perturbation_stay_in_the_ball_on_any_image(norm) -> None:
    budget = Budget(norm, 16.4 / 255 if norm == "linf" else 0.31)
    wild = torch.randn(7, *SHAPE, generator=generator) * 0.2
    levels = budget.levels(wild)
    assert levels.dtype == torch.int16 and levels.abs().max() > 5
    for own in levels:
        assert not budget.exceeded(AdditiveTrigger(own).poison(IMAGES), IMAGES).any()
    inside = torch.tensor([[[[3.4, -3.6], [0.4, -0.6]]]]) / 255
    assert Budget("linf", 4 / 255).levels(inside).flatten().tolist() == [3, -4, 0, -1]
    assert Budget("linf", 3 / 255).levels(inside).flatten().tolist() == [3, -3, 0, -1]


def poison_set(trigger: AdditiveTrigger, **changes) -> PoisonSet:
    setup = Setup(3, 5, 0, 1, 2, torch.arange(6).numpy())
    rest = {"trigger": trigger, "goal": "others"} | changes
    return PoisonSet(setup, trigger.poison(IMAGES), IMAGES, IMAGES[0].clone(), Budget("linf", 16 / 255), **rest)


def test_a_poison_set_comes_back_from_its_files(tmp_path) -> None:
    made = poison_set(AdditiveTrigger(PATTERN, 2.5))
    found = load_poisons(save_poisons(made, tmp_path))
    assert isinstance(found.trigger, AdditiveTrigger) and found.trigger.equals(made.trigger)
    labels = torch.tensor([1, 2, 2, 0, 1, 2])
    assert torch.equal(found.tested_images(IMAGES, labels), made.trigger.stamp(IMAGES[[0, 3, 4]], torch.arange(3)))
    record = json.loads((tmp_path / "setup_003.json").read_text())
    assert record["trigger"] == {"kind": "additive", "test_scale": 2.5}


def test_a_trigger_of_another_shape_is_refused() -> None:
    other = AdditiveTrigger(torch.zeros(3, 5, 5, dtype=torch.int16))
    with pytest.raises(InputError, match=r"adds \(3, 5, 5\) values does not fit onto images of shape \(3, 5, 4\)"):
        PoisonSet(
            Setup(3, 5, 0, 1, 2, torch.arange(6).numpy()),
            IMAGES,
            IMAGES,
            IMAGES[0],
            Budget("linf", 0.1),
            {},
            0.0,
            other,
            "others",
        )


def test_it_is_no_way_around_the_budget() -> None:
    """A trigger that covers every pixel and may stand on poisons beyond the budget would bound nothing."""
    with pytest.raises(InputError, match="covers whole images"):
        poison_set(AdditiveTrigger(PATTERN), visible_trigger=True)
    with pytest.raises(InputError, match="leave the budget"):
        poison_set(AdditiveTrigger(PATTERN * 2))
