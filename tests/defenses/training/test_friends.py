from dataclasses import replace

import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import Epoch, Friends, Run
from poison_and_defend.lightning_modules.classifier import ClassifierModule
from poison_and_defend.lightning_modules.recipe import Recipe
from tests.defenses.training.together import accuracy, assert_equals_alone, random_step, trained


def noise_of(friends: Friends, images: torch.Tensor, logits, seeds: tuple[int, ...]) -> torch.Tensor:
    """Friendly noise ``(m, N, C, H, W)`` of members who all have these images."""
    members, count = len(seeds), len(images)
    labels, places = torch.zeros(members, count, dtype=torch.int64), torch.arange(count).expand(members, -1)
    state: dict[str, torch.Tensor] = {}
    inputs = lambda rows: images[rows].expand(members, -1, -1, -1, -1)  # noqa: E731
    friends.between_epochs(Epoch(0, 8, labels, places, seeds, 10, True, inputs, logits, state))
    return state["noise"]


def test_under_a_constant_classifier_noise_only_grows() -> None:
    images = torch.rand(128, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    constant = lambda seen: seen.flatten(2)[..., :10] * 0  # noqa: E731
    # Without the steps' effect it is what was drawn, whose mean absolute value is half of 8/255.
    found = {steps: noise_of(Friends(steps=steps), images, constant, (3,)).float().abs().mean() * 255 for steps in (1, 30)}
    assert found[1].item() == pytest.approx(4.0, abs=0.03)
    assert found[30].item() == pytest.approx(4.5, abs=0.05)


def test_a_classifier_of_one_pixel_keeps_that_pixel_as_it_is() -> None:
    images = 0.3 + 0.4 * torch.rand(128, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def one_pixel(seen: torch.Tensor) -> torch.Tensor:
        value = seen[..., 0, 16, 16]
        # Twice as steep, a rate of 100 would throw it from side to side.
        return torch.stack([value, -value], -1)

    noise = noise_of(Friends(), images, one_pixel, (3,)).float()[0].abs() * 255
    assert noise[:, 0, 16, 16].mean() < 0.5 < 4.3 < noise[:, 1, 16, 16].mean() < 4.7


def test_noise_is_bounded_and_each_members_own() -> None:
    images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    weight = torch.randn(2, 64, 10, generator=torch.Generator().manual_seed(2))
    both = noise_of(Friends("10/255"), images, lambda seen: seen.flatten(2) @ weight, (3, 5))
    alone = noise_of(Friends("10/255"), images, lambda seen: seen.flatten(2) @ weight[1:], (5,))
    torch.testing.assert_close(both[1], alone[0], rtol=0, atol=1e-3)
    assert not torch.equal(both[0], both[1])
    # Half precision rounds 10/255 by 1e-5 at most.
    assert both.abs().max() <= 10 / 255 + 2e-5 and both.abs().max() > 9.9 / 255


def test_images_are_clipped_with_friendly_noise_and_then_get_new_random_noise() -> None:
    rows, friends = torch.tensor([8, 0, 3, 1, 7, 5]).expand(2, -1), Friends(random_eps="4/255")
    step = replace(random_step(2, 6), rows=rows)
    step.state["noise"] = 0.06 * torch.randn(2, 9, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    after = friends.unaugmented(step).inputs
    for member in range(2):
        for place, row in enumerate(step.rows[member].tolist()):
            friendly = (step.inputs[member, place] + step.state["noise"][member, row]).clamp(0, 1)
            left = after[member, place] - friendly
            torch.testing.assert_close(left.abs(), torch.full_like(left, 4 / 255))
            assert 0.3 < (left > 0).float().mean() < 0.7
    assert not torch.equal(
        friends.unaugmented(random_step(2, 6, number=5)).inputs, friends.unaugmented(random_step(2, 6)).inputs
    )
    gauss = (
        Friends(random="gaussian", random_eps="4/255").unaugmented(random_step(2, 30, 16)).inputs
        - random_step(2, 30, 16).inputs
    )
    assert gauss.std().item() == pytest.approx(4 / 255, rel=0.03) and abs(gauss.mean().item()) < 1e-3


def test_a_member_equals_one_that_is_trained_alone() -> None:
    recipe = Recipe(epochs=3, batch_size=20, max_shift=0.1, flip=True)
    assert_equals_alone(recipe, Friends(warmup=1, steps=5))
    assert_equals_alone(Recipe(epochs=2, batch_size=48, learning_rate=0.5), Friends(steps=5), heads=True)
    assert not torch.equal(trained([5], recipe, Friends(warmup=1)).member_state(0)["head.weight"],
                           trained([5], recipe, Friends("0", warmup=1)).member_state(0)["head.weight"])  # fmt: skip


def test_noise_is_found_after_five_epochs_from_scratch_and_at_once_for_heads() -> None:
    images, constant = torch.rand(4, 1, 8, 8), lambda seen: seen.flatten(2)[..., :10] * 0
    labels = torch.zeros(1, 4, dtype=torch.int64)
    for heads, first in ((False, 5), (True, 0)):
        for number in range(8):
            state: dict[str, torch.Tensor] = {}
            given = (labels, torch.arange(4)[None], (1,), 10, heads, lambda rows: images[rows][None], constant, state)
            Friends().between_epochs(Epoch(number, 8, *given))
            assert ("noise" in state) == (number == first)


def test_digits_are_learned() -> None:
    assert accuracy(Friends(warmup=2, steps=5)) > 0.85


def test_a_single_model_and_too_short_a_training_are_refused(plan_of) -> None:
    with pytest.raises(InputError, match=r"friends looks at all rows.*--defenses \[friends\]"):
        ClassifierModule(defense=Friends())
    with pytest.raises(InputError, match=r"warmup of FrieNDs is 5: of 2 epochs"):
        plan_of(Friends())
    Friends().check_run(Run(100, 10, 1, True, 10, 1))


@pytest.mark.parametrize(
    ("option", "value"),
    [("eps", 1.5), ("eps", "much"), ("random_eps", -0.1), ("random", "laplace"), ("warmup", -1), ("steps", 0)],
)
def test_what_is_out_of_range_is_refused(option: str, value) -> None:
    with pytest.raises(InputError, match=rf"{option} of FrieNDs is {value!r}.*--\*.{option}"):
        Friends(**{option: value})
