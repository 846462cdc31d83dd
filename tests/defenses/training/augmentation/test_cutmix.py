import numpy as np
import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import CutMix
from poison_and_defend.defenses.training.augmentation.cutmix import box
from poison_and_defend.lightning_modules.recipe import Recipe
from tests.defenses.training.together import accuracy, assert_equals_alone, assert_equals_single, random_step


def test_a_label_is_mixed_by_the_share_of_pixels() -> None:
    """What came from where is told by the pixels themselves, which are all different."""
    mixed = 0
    for number in range(30):
        before = random_step(number=number)
        after = CutMix(probability=1.0).inputs(before)
        onehot = torch.nn.functional.one_hot(before.labels, 5).float()
        for member in range(2):
            for place in range(6):
                image, own = after.inputs[member, place], before.inputs[member, place]
                stayed = (image == own).all(0)
                others = [
                    other for other in range(6) if torch.equal(image[:, ~stayed], before.inputs[member, other][:, ~stayed])
                ]
                partner = place if stayed.all() else others[0]
                share = stayed.float().mean()
                expected = share * onehot[member, place] + (1 - share) * onehot[member, partner]
                torch.testing.assert_close(after.targets[member, place], expected)
                mixed += int(not stayed.all())
    assert mixed > 100


def test_the_pasted_pixels_are_a_box_that_ends_at_the_border() -> None:
    assert box(6, 8, (2, 3), (2, 4)).nonzero().tolist() == [[r, c] for r in (1, 2) for c in (1, 2, 3, 4)]
    assert box(6, 8, (0, 7), (4, 4)).nonzero().tolist() == [[r, c] for r in (0, 1) for c in (5, 6, 7)]
    assert not box(6, 8, (3, 3), (0, 4)).any()
    torch.testing.assert_close(box(32, 32, (16, 16), (16, 16)).float().mean(), torch.tensor(0.25))


def test_the_box_has_the_share_of_pixels_that_lambda_leaves() -> None:
    whole = 0
    for number in range(40):
        step, drawn = random_step(1, 2, 64, number), random_step(1, 2, 64, number).generators()
        torch.randperm(2, generator=drawn[0])
        weight = np.random.default_rng(int(torch.randint(2**62, (), generator=drawn[0]))).beta(1.0, 1.0)
        pasted = CutMix(probability=1.0)._box(step.inputs, torch.tensor(weight), drawn[0])
        height, side = int(pasted.any(1).sum()), int((1 - weight) ** 0.5 * 64)
        cut = bool(pasted[0].any() or pasted[-1].any())
        assert height <= side and (height == side or cut)
        whole += not cut
    assert whole > 10


def test_half_of_the_batches_stay_as_they_are_and_members_are_drawn_apart() -> None:
    steps = [random_step(number=number) for number in range(200)]
    after = [CutMix().inputs(step) for step in steps]
    touched = torch.tensor(
        [[not torch.equal(a.inputs[m], s.inputs[m]) for m in range(2)] for a, s in zip(after, steps, strict=True)]
    )
    # A box of less than a pixel, or an image that is its own partner, leaves some more untouched.
    assert 0.35 < touched.float().mean() < 0.55
    assert 0.3 < (touched[:, 0] != touched[:, 1]).float().mean() < 0.7
    untouched = next(step for step, hit in zip(after, touched, strict=True) if not hit[0])
    assert torch.equal(untouched.targets[0].argmax(1), untouched.labels[0]) and (untouched.targets[0].max(1).values == 1).all()


def test_a_member_equals_a_single_classifier_and_one_of_heads_one_alone() -> None:
    assert_equals_single(Recipe(epochs=2, batch_size=20, flip=True), CutMix(probability=0.8))
    assert_equals_alone(Recipe(epochs=2, batch_size=48, learning_rate=0.5), CutMix(), heads=True)


def test_digits_are_learned() -> None:
    assert accuracy(CutMix()) > 0.85


@pytest.mark.parametrize(
    ("option", "value"),
    [("alpha", 0), ("alpha", float("nan")), ("alpha", float("inf")), ("probability", -0.1), ("probability", 1.5)],
)
def test_what_is_out_of_range_is_refused(option: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"{option} of CutMix is {value:g}.*--\*.{option}"):
        CutMix(**{option: value})
