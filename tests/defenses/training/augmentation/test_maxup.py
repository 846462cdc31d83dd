import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import MaxUp, Run
from poison_and_defend.defenses.training.augmentation.cutout import with_holes
from poison_and_defend.lightning_modules.recipe import Recipe
from tests.defenses.training.together import accuracy, assert_equals_alone, assert_equals_single, random_step

WEIGHT = torch.randn(3 * 8 * 8, 5, generator=torch.Generator().manual_seed(0))


def linear(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(2) @ WEIGHT


def test_each_image_gets_the_worst_of_its_own_copies() -> None:
    step, picks = random_step(count=10, epoch=5, logits=linear), set()
    drawn = step.generators()
    copies = [with_holes(step.inputs, 0.5, 0.5, drawn) for _ in range(4)]
    after = MaxUp().inputs(step)
    for member in range(2):
        for place in range(10):
            label = step.labels[member, place]
            losses = [-linear(copy[None, None, member, place])[0, 0].log_softmax(0)[label].item() for copy in copies]
            worst = max(range(4), key=losses.__getitem__)
            assert torch.equal(after.inputs[member, place], copies[worst][member, place])
            picks.add((member, worst))
    # One pick for a batch would give two.
    assert len(picks) > 4


def test_before_the_fifth_epoch_it_is_one_random_cutout() -> None:
    step = random_step(epoch=4, logits=linear)
    assert torch.equal(MaxUp().inputs(step).inputs, with_holes(step.inputs, 0.5, 0.5, step.generators()))
    assert not torch.equal(MaxUp(warmup=4).inputs(step).inputs, MaxUp().inputs(step).inputs)


def test_a_member_equals_a_single_classifier_and_one_of_heads_one_alone() -> None:
    # The second epoch compares.
    assert_equals_single(Recipe(epochs=2, batch_size=20), MaxUp(warmup=1))
    assert_equals_alone(Recipe(epochs=2, batch_size=48, learning_rate=0.5), MaxUp(warmup=0), heads=True)


def test_digits_are_learned() -> None:
    assert accuracy(MaxUp(warmup=2)) > 0.8


@pytest.mark.parametrize(("option", "value"), [("copies", 1), ("warmup", -1), ("side", 2.0), ("fill", 1.5)])
def test_what_is_out_of_range_is_refused(option: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"(?i){option} of maxup is {value:g}.*--\*.{option}"):
        MaxUp(**{option: value})


def test_a_training_that_ends_before_anything_is_compared_is_refused() -> None:
    with pytest.raises(InputError, match=r"warmup of MaxUp is 5: of 5 epochs"):
        MaxUp().check_run(Run(100, 10, 5, False, 10, 1))
    MaxUp().check_run(Run(100, 10, 6, False, 10, 1))
