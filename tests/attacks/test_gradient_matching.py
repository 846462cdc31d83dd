import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from poison_and_defend.attacks import WitchesBrew
from poison_and_defend.attacks.crafting import parameter_gradients
from poison_and_defend.attacks.crafting.augmentation import augment, draw_augmentation
from poison_and_defend.attacks.crafting.parameter_gradients import (
    goal_gradient,
    gradient_norms,
    loop_gradients,
    loop_values,
    matching_gradient,
    matching_value,
    stacked_gradients,
)
from poison_and_defend.attacks.crafting.views import View
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.build import build_network
from tests.attacks import by_hand

generator = torch.Generator().manual_seed(0)
POISONS = torch.rand(3, 5, 1, 16, 16, generator=generator, dtype=torch.float64)
TARGETS = torch.rand(3, 2, 1, 16, 16, generator=generator, dtype=torch.float64)
LABELS = torch.tensor([4, 7, 1])[:, None].expand(3, 5)
VIEWS = torch.stack([draw_augmentation((5,), generator, flip=True) for _ in range(3)]).double()
BACKBONES = ["convnet", "patchnet", "convnet_wide"]  # group normalization, none, batch normalization


def build(name: str, seed: int = 3) -> Classifier:
    """With running statistics that are not those of a new network, so that forgetting them shows."""
    model = build_network(name, in_channels=1, num_classes=10, seed=seed).double()
    model.train()(torch.rand(20, 1, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    return model.eval()


@pytest.fixture(scope="module", params=BACKBONES)
def model(request: pytest.FixtureRequest) -> Classifier:
    return build(request.param)


def flat_gradient(model: Classifier, images: Tensor, labels: Tensor, create_graph: bool = False) -> Tensor:
    loss = functional.cross_entropy(model(images), labels)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()), create_graph=create_graph)])


def flat(gradient: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in gradient.values()])


def expected(model: Classifier, lane: int, rows: slice, views: Tensor | None) -> tuple[Tensor, Tensor]:
    """dB/d(poison) and B by plain autograd over the concatenated parameters."""
    images = POISONS[lane, rows].clone().requires_grad_()
    seen = images if views is None else augment(images, views[lane, rows], 0.2)
    own = flat_gradient(model, seen, LABELS[lane, rows], create_graph=True)
    goal = flat_gradient(model, TARGETS[lane], LABELS[lane, :2])
    value = 1 - functional.cosine_similarity(own, goal, dim=0)
    return torch.autograd.grad(value, [images])[0], value.detach()


@pytest.mark.parametrize("batch_size", [1, 2, 512])
def test_goal_is_the_gradient_of_the_mean_loss_over_all_images(model: Classifier, batch_size: int) -> None:
    images = TARGETS.flatten(0, 1)[:5]
    found = goal_gradient(model, images, torch.tensor(7), batch_size)
    assert list(found) == [name for name, _ in model.named_parameters()]
    torch.testing.assert_close(flat(found), flat_gradient(model, images, torch.full((5,), 7)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("views", [None, VIEWS])
def test_matching_gradient_is_autograds(model: Classifier, views: Tensor | None) -> None:
    goal = goal_gradient(model, TARGETS[0], LABELS[0, 0], 512)
    found = matching_gradient(model, POISONS[0], LABELS[0], goal, [View() if views is None else View(views[:1], 0.2)])
    wanted = expected(model, 0, slice(None), views)
    assert wanted[0].abs().max() > 0
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-7 * wanted[0].abs().max().item())


@pytest.mark.parametrize("together", [1, 2, 32])
def test_over_several_views_the_poisons_gradient_is_averaged_before_it_is_compared(
    model: Classifier, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poison_and_defend.attacks.crafting.parameter_gradients._SEEN_TOGETHER", together)
    goal = goal_gradient(model, TARGETS[0], LABELS[0, 0], 512)
    both = [View(VIEWS[:1], 0.2), View(VIEWS[1:2], 0.2)]
    gradient, value = matching_gradient(model, POISONS[0], LABELS[0], goal, both)
    images = POISONS[0].clone().requires_grad_()
    own = [flat_gradient(model, augment(images, VIEWS[n], 0.2), LABELS[0], create_graph=True) for n in range(2)]
    wanted = 1 - functional.cosine_similarity((own[0] + own[1]) / 2, flat(goal), dim=0)
    torch.testing.assert_close(value, wanted.detach(), rtol=1e-9, atol=1e-9)
    slope = torch.autograd.grad(wanted, [images])[0]
    torch.testing.assert_close(gradient, slope, rtol=1e-7, atol=1e-7 * slope.abs().max().item())
    torch.testing.assert_close(matching_value(model, POISONS[0], LABELS[0], goal, both), value, rtol=1e-9, atol=1e-9)
    # Which is another thing than the mean of the views' own values.
    apart = [matching_gradient(model, POISONS[0], LABELS[0], goal, [view])[1] for view in both]
    assert abs(sum(apart).item() / 2 - value.item()) > 1e-4


def test_value_is_zero_for_the_goal_itself_and_two_for_its_opposite(model: Classifier) -> None:
    goal = goal_gradient(model, TARGETS[0], LABELS[0, 0], 512)
    opposite = {name: -3 * value for name, value in goal.items()}
    values = [matching_gradient(model, TARGETS[0], LABELS[0, :2], side)[1].item() for side in (goal, opposite)]
    assert values == pytest.approx([0, 2], abs=1e-9)


def test_no_direction_gives_no_nan(model: Classifier) -> None:
    nothing = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    gradient, value = matching_gradient(model, POISONS[0], LABELS[0], nothing)
    assert value.item() == 1
    assert gradient.isfinite().all()


@pytest.mark.parametrize("batch_size", [2, 512])
@pytest.mark.parametrize("own_models", [False, True])
@pytest.mark.parametrize("name", ["patchnet", "convnet_wide"])
def test_both_engines_are_autograd_averaged_over_surrogates(name: str, own_models: bool, batch_size: int) -> None:
    models = [[build(name, seed=10 * lane * own_models + number) for number in (1, 2)] for lane in range(3)]
    if not own_models:
        models = [models[0]] * 3
    goals = [[goal_gradient(m, TARGETS[lane], LABELS[lane, 0], 512) for m in models[lane]] for lane in range(3)]
    parts = [slice(0, 2), slice(2, 4), slice(4, 5)] if batch_size == 2 else [slice(0, 5)]
    for engine in (loop_gradients, stacked_gradients):
        gradient, objective = engine(models, goals, POISONS, LABELS, [View(VIEWS, 0.2)], batch_size)
        alone = loop_values(models, goals, POISONS, LABELS, [View(VIEWS, 0.2)], batch_size)
        torch.testing.assert_close(alone, objective, rtol=1e-9, atol=1e-9)
        for lane in range(3):
            # Each batch of poisons is matched by itself; the objective is the mean over poisons.
            found = [[expected(m, lane, rows, VIEWS) for m in models[lane]] for rows in parts]
            value = sum((a[1] + b[1]) / 2 * (rows.stop - rows.start) / 5 for (a, b), rows in zip(found, parts, strict=True))
            wanted = torch.cat([(a[0] + b[0]) / 2 for a, b in found])
            torch.testing.assert_close(objective[lane], value, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(gradient[lane], wanted, rtol=1e-7, atol=1e-7 * wanted.abs().max().item())


def test_gradient_norms_are_those_of_one_image_at_a_time(model: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    images = POISONS.flatten(0, 1)[:7]
    wanted = torch.stack([flat_gradient(model, image[None], torch.tensor([6])).norm() for image in images])
    assert wanted.max() > 1.01 * wanted.min()
    torch.testing.assert_close(gradient_norms(model, images, 6), wanted, rtol=1e-9, atol=0)
    numbers = sum(parameter.numel() for parameter in model.parameters())
    monkeypatch.setattr("poison_and_defend.attacks.crafting.parameter_gradients._CHUNK_NUMBERS", 3 * numbers)
    torch.testing.assert_close(gradient_norms(model, images, 6), wanted, rtol=1e-9, atol=0)


@pytest.mark.parametrize("frozen", [False, True])
def test_models_are_left_as_they_were(frozen: bool) -> None:
    model = build("convnet_wide").requires_grad_(not frozen)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    goals = [[goal_gradient(model, TARGETS[0], LABELS[0, 0], 512)]]
    for engine in (loop_gradients, stacked_gradients):
        gradient, _ = engine([[model]], goals, POISONS[:1], LABELS[:1], [View()], 512)
        assert gradient.abs().max() > 0
    gradient_norms(model, POISONS[0], 1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad is not frozen for p in model.parameters())


def moved(images: by_hand.Array, down: float, right: float, mirror: float) -> by_hand.Array:
    """An image ``(1, 4, 4)`` seen so many pixels further down and right, mirrored about its middle: bilinear, black outside."""
    found = np.zeros_like(images)
    for row in range(4):
        for column in range(4):
            y, x = row + down, 1.5 + mirror * (column - 1.5) + right
            for near_y, near_x in itertools.product((math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)):
                if 0 <= near_y < 4 and 0 <= near_x < 4:
                    found[:, row, column] += (1 - abs(y - near_y)) * (1 - abs(x - near_x)) * images[:, near_y, near_x]
    return found


@pytest.mark.parametrize(("max_shift", "flip"), [(0.25, False), (0.0, True), (0.25, True), (0.0, False)])
def test_surrogates_are_shown_a_view_of_every_poison_no_further_off_than_asked(max_shift: float, flip: bool) -> None:
    batch, (model,) = by_hand.small_batch(), by_hand.models(1)
    attack = WitchesBrew(0.05, steps=1, learning_rate=0.01, restarts=1, max_shift=max_shift, flip=flip)
    attack.perturb(batch, [model], lambda value: None)
    shown = [images for images in model.seen if len(images) == by_hand.POISONS]
    for setup, (seed, bases) in enumerate(zip(batch.seeds, batch.bases.numpy(), strict=True)):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(bases.shape, generator=generator).double().numpy()
        start = by_hand.projected(bases + 0.05 * noise, bases, "linf", 0.05)
        shifts = (torch.rand(by_hand.POISONS, 2, generator=generator) * 2 - 1).double().numpy() * max_shift * 4
        mirrored = torch.rand(by_hand.POISONS, 1, generator=generator)[:, 0] < 0.5
        for place in range(by_hand.POISONS):
            mirror = -1.0 if flip and mirrored[place] else 1.0
            np.testing.assert_allclose(shown[setup][place], moved(start[place], *shifts[place], mirror), rtol=0, atol=1e-6)


def test_images_are_left_as_they_were(model: Classifier) -> None:
    images = POISONS[0].clone()
    goal = goal_gradient(model, TARGETS[0], LABELS[0, 0], 512)
    matching_gradient(model, images, LABELS[0], goal)
    assert torch.equal(images, POISONS[0]) and not images.requires_grad


def test_no_more_is_differentiated_together_than_memory_is_meant_for(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes, chunks = [], []
    stacked, mapped = parameter_gradients._stacked, parameter_gradients.vmap

    def watched_stack(models, goals, poisons, *rest):
        shapes.append(tuple(poisons.shape[:2]))
        return stacked(models, goals, poisons, *rest)

    def watched_map(function, **options):
        chunks.append(options.get("chunk_size"))
        return mapped(function, **options)

    model = build("patchnet")
    goals = [[goal_gradient(model, TARGETS[lane], LABELS[lane, 0], 512)] for lane in range(3)]
    monkeypatch.setattr(parameter_gradients, "_stacked", watched_stack)
    for batch_size, expected in ((5, [(1, 5)] * 3), (10, [(2, 5), (1, 5)]), (3, [(1, 3), (1, 2)] * 3), (15, [(3, 5)])):
        shapes.clear()
        stacked_gradients([[model]] * 3, goals, POISONS, LABELS, [View()], batch_size)
        assert shapes == expected
    numbers = sum(parameter.numel() for parameter in model.parameters())
    monkeypatch.setattr(parameter_gradients, "vmap", watched_map)
    for most, chunk in ((3 * numbers, 3), (numbers // 2, 1), (10**4 * numbers, 512)):
        chunks.clear()
        monkeypatch.setattr(parameter_gradients, "_CHUNK_NUMBERS", most)
        gradient_norms(model, POISONS[0], 6)
        assert chunks[-1] == chunk


def test_without_augmentation_surrogates_are_shown_the_poisons_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    def resampled(*_: object) -> None:
        raise AssertionError("images are sampled anew for a view that changes nothing")

    monkeypatch.setattr(parameter_gradients, "augment", resampled)
    batch, (model,) = by_hand.small_batch(), by_hand.models(1)
    attack = WitchesBrew(0.05, steps=1, learning_rate=0.01, restarts=1, max_shift=0.0, flip=False)
    poisons, _ = attack.perturb(batch, [model], lambda value: None)
    last = [images for images in model.seen if len(images) == by_hand.POISONS][-by_hand.SETUPS :]
    assert np.array_equal(np.stack(last), poisons.numpy())


def test_the_length_of_a_goal_does_not_matter_however_short_it_is(model: Classifier) -> None:
    goal = goal_gradient(model, TARGETS[0], LABELS[0, 0], 512)
    _, value = matching_gradient(model, POISONS[0], LABELS[0], goal)
    short = {name: own * (1.5e-15 / flat(goal).norm()) for name, own in goal.items()}
    assert matching_gradient(model, POISONS[0], LABELS[0], short)[1].item() == pytest.approx(value.item(), rel=1e-9)
