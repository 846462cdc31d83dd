import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import Cutout
from poison_and_defend.defenses.training.augmentation.cutout import with_holes
from poison_and_defend.lightning_modules.recipe import Recipe
from tests.defenses.training.together import accuracy, assert_equals_alone, assert_equals_single, random_step


def covered(images: torch.Tensor, fill: float) -> torch.Tensor:
    return (images == fill).all(-3)


def test_every_image_has_one_square_of_its_own_which_the_border_cuts_off() -> None:
    before = random_step(count=40, side=16)
    after = Cutout(0.25, fill=0.0).inputs(before)
    holes, places = covered(after.inputs, 0.0).flatten(0, 1), set()
    for hole in holes:
        rows, columns = hole.any(1).nonzero()[:, 0], hole.any(0).nonzero()[:, 0]
        assert torch.equal(hole.nonzero(), torch.cartesian_prod(rows, columns)), "no rectangle"
        for found in (rows, columns):
            assert len(found) == found[-1] - found[0] + 1
            assert len(found) == 4 or found[0] == 0 or found[-1] == 15
        places.add((int(rows[0]), int(columns[0])))
    assert len(places) > 40
    # Every pixel is a centre: 2.3 in 16 of the rows of a square are beyond the border.
    assert holes.any(2).sum(1).float().mean().item() == pytest.approx(4 - (2 + 1 + 1) / 16, abs=0.15)
    outside = ~holes.view(2, 40, 1, 16, 16).expand_as(after.inputs)
    assert torch.equal(after.inputs[outside], before.inputs[outside]) and after.targets is None


def test_images_are_not_written_to_so_that_copies_have_a_hole_each() -> None:
    step = random_step(count=3, side=16)
    before, drawn = step.inputs.clone(), step.generators()
    copies = [with_holes(step.inputs, 0.5, 0.0, drawn) for _ in range(4)]
    assert torch.equal(step.inputs, before)
    assert all(covered(copy, 0.0).flatten(-2).sum(-1).max() <= 64 for copy in copies)
    assert len({tuple(covered(copy, 0.0).flatten().tolist()) for copy in copies}) == 4


def test_a_member_equals_a_single_classifier_and_one_of_heads_one_alone() -> None:
    assert_equals_single(Recipe(epochs=2, batch_size=20, max_shift=0.1), Cutout())
    assert_equals_alone(Recipe(epochs=2, batch_size=48, learning_rate=0.5), Cutout(), heads=True)


def test_digits_are_learned() -> None:
    assert accuracy(Cutout()) > 0.85


@pytest.mark.parametrize(("option", "value"), [("side", 0.0), ("side", 1.01), ("fill", -0.1), ("fill", float("nan"))])
def test_what_is_out_of_range_is_refused(option: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"{option} of cutout is {value:g}.*--\*.{option}"):
        Cutout(**{option: value})


def test_a_square_of_no_pixel_is_refused() -> None:
    with pytest.raises(InputError, match=r"side of cutout is 0.01: of 8 pixels it covers none"):
        Cutout(0.01).check((1, 8, 12), 10)
    Cutout(0.1).check((1, 8, 12), 10)
