from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from poison_and_defend.attacks import SleeperAgent, sleeper_agent
from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.attacks.threat.surrogate import CraftBatch, Surrogate
from poison_and_defend.attacks.threat.trigger import PatchTrigger
from poison_and_defend.core.errors import InputError
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.build import build_network
from tests.attacks.by_hand import (
    POISONS,
    SETUPS,
    SHAPE,
    Adam,
    loss_gradient,
    models,
    projected,
    small_batch,
)


def sleeper(steps: int = 4, retrains: int = 0, **rest) -> SleeperAgent:
    """Few sources, without augmentation unless asked for."""
    plain = {"max_shift": 0.0, "flip": False, "num_sources": 6, "selection": "given"}
    return SleeperAgent(**plain | rest, steps=steps, retrains=retrains)


@pytest.fixture(scope="module")
def others() -> list[Classifier]:
    """What retraining brings: one surrogate a setup."""
    return [build_network("patchnet", in_channels=1, num_classes=10, seed=seed).eval() for seed in (11, 12, 13)]


@pytest.fixture(scope="module")
def batch(digits, setups) -> CraftBatch:
    train, test = digits.split("train"), digits.split("test")
    attack = sleeper()
    made = attack._batch(setups, train.images, train.labels, test.images, attack.build_trigger((1, 32, 32)), "cpu")
    return replace(made, bases=made.bases[:, :3], base_labels=made.base_labels[:, :3])


def matching(model: Classifier, poisons: Tensor, batch: CraftBatch, setup: int) -> float:
    """B of one setup by plain autograd over the concatenated parameters."""
    label, parameters = batch.base_labels[setup, 0], list(model.parameters())

    def flat(images: Tensor) -> Tensor:
        loss = functional.cross_entropy(model(images), label.expand(len(images)))
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])

    return 1 - functional.cosine_similarity(flat(poisons), flat(batch.sources[setup]), dim=0).item()


def test_goal_is_triggered_training_images_of_the_source_class(digits, setups, batch) -> None:
    train = digits.split("train")
    for setup, sources in zip(setups, batch.sources, strict=True):
        own = train.images[train.labels == setup.target_label].float() / 255
        different = (sources[:, None] != own[None]).flatten(2).sum(-1)
        assert different.min(1).values.max() <= 64, "each is a training image but for the patch of 8 x 8"
        assert different.min(1).values.min() > 0
        assert len(different.argmin(1).unique()) == 6


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.2), ("linf", 0.02), ("l2", 0.8), ("l2", 0.05)])
@pytest.mark.parametrize("steps", [1, 8])
def test_steps_are_signed_adams_on_the_papers_slope_projected_each_time(steps: int, norm: str, eps: float) -> None:
    batch, (model,) = small_batch(), models(1)
    attack = sleeper(steps=steps, eps=eps, norm=norm, learning_rate=0.03)
    found, _ = attack.perturb(batch, [model], lambda value: None)
    shown = [images for images in model.seen if images.shape == (POISONS, *SHAPE)][SETUPS:]  # first the goals, once a setup
    assert len(shown) == SETUPS * (steps + 1)
    # Tenfold less after 3, 5 and 7 of 8 steps; one step is the whole of its path.
    rates = [0.03] * 3 + [0.003] * 2 + [3e-4] * 2 + [3e-5]
    for setup, (seed, bases) in enumerate(zip(batch.seeds, batch.bases.numpy(), strict=True)):
        # Drawn in single precision, hence the tolerances.
        noise = torch.randn(bases.shape, generator=torch.Generator().manual_seed(seed)).double().numpy()
        adam, expected = Adam(), projected(bases + eps * noise, bases, norm, eps)
        goal = loss_gradient(model, batch.sources[setup], batch.base_labels[setup, 0]).detach()
        for step in range(steps):
            np.testing.assert_allclose(shown[step * SETUPS + setup], expected, rtol=0, atol=1e-7)
            images = torch.from_numpy(expected).requires_grad_()
            own = loss_gradient(model, images, batch.base_labels[setup, 0])
            matching = 1 - (own * goal).sum() / ((own * own).sum() * (goal * goal).sum()).sqrt()
            slope = torch.autograd.grad(matching, images)[0].numpy()
            expected = projected(expected - adam.step(rates[step], np.sign(slope)), bases, norm, eps)
        np.testing.assert_allclose(found[setup].numpy(), expected, rtol=0, atol=1e-7)


def test_reported_objective_is_that_of_the_poisons(batch, surrogates) -> None:
    poisons, objective = sleeper(steps=2, poison_batch=512).perturb(batch, surrogates, lambda value: None)
    expected = [np.mean([matching(m, poisons[i], batch, i) for m in surrogates]) for i in range(3)]
    assert objective.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("steps", "retrains", "expected"), [(250, 4, [50, 100, 150, 200]), (7, 2, [2, 5]), (5, 0, [])])
def test_retraining_is_spread_evenly(steps: int, retrains: int, expected: list[int]) -> None:
    assert sleeper(steps=steps, retrains=retrains).retrain_steps == expected


def test_retrained_surrogates_take_over_and_bring_their_own_goal(batch, surrogates, others) -> None:
    attack, steps, calls = sleeper(steps=6, retrains=2), [], []

    def retrain(poisons: Tensor) -> list[list[Surrogate]]:
        calls.append((len(steps), poisons.clone()))
        return [[other] for other in (others if len(calls) == 2 else others[::-1])]

    found, objective = attack.perturb(replace(batch, retrain=retrain), surrogates[:1], steps.append)
    assert [number for number, _ in calls] == [2, 4]
    for _, poisons in calls:
        assert poisons.shape == batch.bases.shape
        assert ((poisons - batch.bases).abs() <= 16 / 255 + 1e-6).all()
    assert not torch.equal(calls[0][1], calls[1][1])
    # Each setup by its own newest surrogate, poisons and goal.
    expected = [matching(others[i], found[i], batch, i) for i in range(3)]
    assert objective.tolist() == pytest.approx(expected, abs=1e-5)
    taken = [matching(others[2 - i], calls[0][1][i], batch, i) for i in range(3)]
    assert steps[2].tolist() == pytest.approx(taken, abs=1e-5)


def test_craft_hands_the_setups_to_retraining(craft, setups, others) -> None:
    seen: list[Sequence[Setup]] = []

    def retrain(chosen: Sequence[Setup], poisons: Tensor) -> list[list[Surrogate]]:
        seen.append(chosen)
        return [[other] for other in others]

    craft(sleeper(steps=2, retrains=1, selection="gradient_norm"), retrain=retrain)
    ((first, *_),) = seen
    assert first.index == setups[0].index
    assert set(first.base_indices.tolist()) != set(setups[0].base_indices.tolist())


def test_retraining_without_means_is_refused(craft) -> None:
    with pytest.raises(InputError, match=r"retrains is 1.*--attack.retrains"):
        craft(sleeper(retrains=1))


def test_selection_takes_the_largest_gradients_of_the_class(digits, setups, craft, surrogates) -> None:
    train = digits.split("train")
    for poisons in craft(sleeper(steps=1, selection="gradient_norm"), setups[:1], surrogates):
        setup = poisons.setup
        rows = (train.labels == setup.adversarial_label).nonzero()[:, 0]
        norms = torch.zeros(len(rows))
        for model in surrogates:
            for place, row in enumerate(rows):
                loss = functional.cross_entropy(model(train.images[row][None].float() / 255), train.labels[row][None])
                gradients = torch.autograd.grad(loss, list(model.parameters()))
                norms[place] += torch.cat([g.flatten() for g in gradients]).norm()
        assert set(setup.base_indices.tolist()) == set(rows[norms.topk(4).indices].tolist())
        assert torch.equal(poisons.bases, train.images[torch.from_numpy(setup.base_indices)])


def test_given_bases_are_kept(setups, craft) -> None:
    for before, poisons in zip(setups, craft(sleeper(steps=1)), strict=True):
        assert poisons.setup is before


def test_selection_among_fixed_training_rows_is_refused(setups, craft) -> None:
    rows = np.concatenate([np.setdiff1d(np.arange(100), setups[0].base_indices), setups[0].base_indices])
    fixed = replace(setups[0], train_rows=rows)
    with pytest.raises(InputError, match=r"setup 0 .*selection given.*--attack.selection"):
        craft(sleeper(selection="gradient_norm"), [fixed])
    craft(sleeper(steps=1), [fixed])


@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 1.5)])
def test_budget_holds_after_rounding_and_poisons_show_no_trigger(craft, norm: str, eps: float) -> None:
    for poisons in craft(sleeper(eps=eps, norm=norm, max_shift=0.125, flip=True)):
        delta = (poisons.images.numpy().astype(float) - poisons.bases.numpy()).reshape(len(poisons.images), -1) / 255
        sizes = np.linalg.norm(delta, np.inf if norm == "linf" else 2, axis=1)
        assert sizes.max() <= eps + 1e-8
        assert sizes.min() > 0.5 * eps
        assert poisons.trigger is not None
        assert not poisons.visible_trigger


def test_same_seed_same_bytes_and_another_seed_others(craft, setups) -> None:
    attack = sleeper(steps=2, max_shift=0.125)
    one, two = craft(attack), craft(attack)
    assert all(torch.equal(a.images, b.images) for a, b in zip(one, two, strict=True))
    (other,) = craft(attack, [replace(setups[0], seed=5)])
    assert not torch.equal(other.images, one[0].images)


def test_objective_falls_on_digits(batch, surrogates) -> None:
    seen: list[Tensor] = []
    _, final = sleeper(steps=20, eps="64/255", learning_rate=0.04).perturb(batch, surrogates[:1], seen.append)
    assert (final < 0.75 * seen[0]).all()


def test_surrogate_with_broken_weights_is_refused(craft) -> None:
    broken = build_network("patchnet", in_channels=1, num_classes=10, seed=1).eval()
    torch.nn.init.constant_(broken.head.weight, float("nan"))
    for selection in ("given", "gradient_norm"):
        with pytest.raises(InputError, match=r"no finite gradient.*setup 0.*--feature_recipe.learning_rate"):
            craft(sleeper(selection=selection), models=[broken])


def test_one_image_without_a_finite_gradient_is_refused(craft, surrogates, monkeypatch: pytest.MonkeyPatch) -> None:
    def norms(model, images, label):
        return torch.cat([torch.full((1,), torch.inf), torch.arange(len(images) - 1.0)])

    monkeypatch.setattr(sleeper_agent, "gradient_norms", norms)
    with pytest.raises(InputError, match=r"no finite gradient at an image of class \d, which setup 0 needs"):
        craft(sleeper(steps=1, selection="gradient_norm"), models=surrogates)


def test_the_papers_trigger_is_the_default() -> None:
    trigger = SleeperAgent(eps="16/255").trigger
    assert isinstance(trigger, PatchTrigger)
    assert (trigger.size, trigger.placement) == (8, "random")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_sources": 0}, "num_sources is 0.*--attack.num_sources"),
        ({"retrains": -1}, "retrains is -1.*--attack.retrains"),
        ({"steps": 5, "retrains": 5}, "retrains is 5.*--attack.retrains"),
        ({"selection": "best"}, "selection is 'best'.*--attack.selection"),
        ({"poison_batch": 0}, "poison_batch is 0.*--attack.poison_batch"),
        ({"learning_rate": 0.0}, "learning_rate is 0.*--attack.learning_rate"),
        ({"max_shift": 1.0}, "max_shift is 1.*--attack.max_shift"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sleeper(**arguments)


def test_arguments_are_recorded() -> None:
    told = sleeper(retrains=3, trigger=PatchTrigger(5)).arguments()
    assert told["sources"] == 6
    assert (told["retrains"], told["selection"], told["trigger"]["size"]) == (3, "given", 5)
