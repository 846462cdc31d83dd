"""Witches' Brew with a move uphill: Sharpness-Aware Data Poisoning."""

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from poison_and_defend.attacks import WitchesBrew
from poison_and_defend.attacks.crafting.parameter_gradients import goal_gradient, loop_gradients, stacked_gradients
from poison_and_defend.attacks.crafting.precision import LowPrecision
from poison_and_defend.attacks.crafting.sharpness import sharp_goal_gradient
from poison_and_defend.attacks.crafting.views import View
from poison_and_defend.attacks.threat.surrogate import CraftBatch
from poison_and_defend.core.errors import InputError
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.build import build_network

RHO = 0.3
generator = torch.Generator().manual_seed(5)
BASES = torch.rand(2, 3, 1, 16, 16, generator=generator, dtype=torch.float64)
TARGETS = torch.rand(2, 2, 1, 16, 16, generator=generator, dtype=torch.float64)
LABELS = torch.tensor([4, 7])[:, None].expand(2, 3)


def build(name: str, seed: int) -> Classifier:
    model = build_network(name, in_channels=1, num_classes=10, seed=seed).double()
    model.train()(torch.rand(20, 1, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    return model.eval()


@pytest.fixture(scope="module")
def models() -> list[Classifier]:
    return [build("patchnet", 1), build("convnet_wide", 2)]


@pytest.fixture
def batch() -> CraftBatch:
    return CraftBatch(BASES, LABELS, TARGETS, (11, 12))


def loss_at(model: Classifier, weights: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(functional_call(model, weights, (images,)), labels)


def moved_gradient(model: Classifier, setup: int, radius: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights moved uphill along the targets' loss, and the gradient of that loss there, by plain autograd."""
    labels = LABELS[setup, :2]
    weights = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    first = torch.autograd.grad(loss_at(model, weights, TARGETS[setup], labels), list(weights.values()))
    length = math.sqrt(sum(float((g**2).sum()) for g in first))
    moved = {
        name: (w.detach() + radius * g / length).requires_grad_() for (name, w), g in zip(weights.items(), first, strict=True)
    }
    second = torch.autograd.grad(loss_at(model, moved, TARGETS[setup], labels), list(moved.values()))
    return moved, dict(zip(moved, second, strict=True))


def expected(model: Classifier, poisons: Tensor, setup: int, radius: float) -> Tensor:
    """B: the goal at moved weights, the poisons' own gradient at the surrogate's."""
    _, goal = moved_gradient(model, setup, radius)
    loss = functional.cross_entropy(model(poisons), LABELS[setup])
    own = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    flat = [torch.cat([g.flatten() for g in side]) for side in (own, goal.values())]
    return 1 - functional.cosine_similarity(flat[0], flat[1], dim=0)


@pytest.mark.parametrize("batch_size", [1, 512])
def test_the_goal_is_taken_where_one_normalised_step_uphill_leads(models, batch_size: int) -> None:
    for model in models:
        before = {name: value.clone() for name, value in model.state_dict().items()}
        moved, wanted = moved_gradient(model, 0, RHO)
        found = sharp_goal_gradient(model, TARGETS[0], LABELS[0, 0], batch_size, RHO)
        plain = goal_gradient(model, TARGETS[0], LABELS[0, 0], batch_size)
        distance = math.sqrt(sum(float((moved[name] - p).detach().square().sum()) for name, p in model.named_parameters()))
        assert distance == pytest.approx(RHO)
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-8, atol=1e-12)
        assert max(float((found[name] - plain[name]).abs().max()) for name in plain) > 1e-3
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_loss_is_larger_there(models) -> None:
    for model in models:
        moved, _ = moved_gradient(model, 0, RHO)
        own = {name: p.detach() for name, p in model.named_parameters()}
        higher, lower = (loss_at(model, w, TARGETS[0], LABELS[0, :2]).item() for w in (moved, own))
        assert higher > lower + 0.01


def test_no_move_is_the_plain_gradient_to_the_bit(models) -> None:
    for model in models:
        sharp = sharp_goal_gradient(model, TARGETS[0], LABELS[0, 0], 512, 0.0)
        plain = goal_gradient(model, TARGETS[0], LABELS[0, 0], 512)
        assert all(torch.equal(sharp[name], plain[name]) for name in plain)


def test_a_flat_loss_stays_where_it_is(models) -> None:
    model = models[0]
    flat = build("patchnet", 1)
    with torch.no_grad():
        for parameter in flat.parameters():
            parameter.zero_()
        flat.head.bias[4] = 1e4  # certain of the label, so that nothing changes the loss
    found = sharp_goal_gradient(flat, TARGETS[0], LABELS[0, 0], 512, RHO)
    assert all(value.isfinite().all() for value in found.values())
    assert any(value.abs().max() > 0 for value in sharp_goal_gradient(model, TARGETS[0], LABELS[0, 0], 512, RHO).values())


@pytest.mark.parametrize("looped", [True, False])
@pytest.mark.parametrize("count", [1, 2])
def test_objective_and_first_step_are_those_of_the_paper(models, batch, monkeypatch, looped: bool, count: int) -> None:
    """With both engines, for one surrogate and for several of different architectures, in double precision."""
    monkeypatch.setattr(WitchesBrew, "_looped", lambda self, batch, models, goals: looped)
    monkeypatch.setattr(WitchesBrew, "_start", lambda self, bases, generators: bases.clone())
    attack = WitchesBrew("16/255", steps=1, learning_rate=0.01, restarts=1, max_shift=0, flip=False, sharpness=RHO)
    seen: list[Tensor] = []
    poisons, final = attack.perturb(batch, models[:count], lambda value: seen.append(value.clone()))
    for setup in range(2):
        start = BASES[setup].clone().requires_grad_()
        value = torch.stack([expected(model, start, setup, RHO) for model in models[:count]]).mean()
        assert seen[0][setup].item() == pytest.approx(value.item(), abs=1e-9)
        (gradient,) = torch.autograd.grad(value, [start])
        certain = gradient.abs() > 1e-12
        assert certain.float().mean() > 0.8
        step = (poisons[setup] - BASES[setup])[certain]
        # Signs, and nothing but signs: how long a step is is Witches' Brew's business.
        assert torch.equal(step.sign(), -gradient.sign()[certain])
        after = torch.stack([expected(model, poisons[setup], setup, RHO) for model in models[:count]]).mean()
        assert final[setup].item() == pytest.approx(after.item(), abs=1e-9)
        plain = torch.stack([expected(model, start, setup, 0.0) for model in models[:count]]).mean()
        assert abs(plain.item() - value.item()) > 1e-4


def test_both_engines_agree_on_moved_goals(models) -> None:
    goals = [[sharp_goal_gradient(m, TARGETS[lane], LABELS[lane, 0], 512, RHO) for m in models] for lane in range(2)]
    looped, stacked = (
        engine([models] * 2, goals, BASES, LABELS, [View()], 2) for engine in (loop_gradients, stacked_gradients)
    )
    for one, other in zip(looped, stacked, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_half_precision_is_accepted(craft, surrogates) -> None:
    attack = WitchesBrew("16/255", steps=2, restarts=1, max_shift=0, flip=False, sharpness=0.05)
    for poisons in craft(attack, models=[LowPrecision(surrogates[0])]):
        assert not torch.equal(poisons.images, poisons.bases)


def test_without_it_poisons_and_records_are_those_of_before(craft) -> None:
    options = {"eps": "16/255", "steps": 3, "restarts": 2, "flip": False}
    plain, off, on = (craft(WitchesBrew(**options, **rest)) for rest in ({}, {"sharpness": 0.0}, {"sharpness": 5.0}))
    assert all(torch.equal(a.images, b.images) and a.objective == b.objective for a, b in zip(plain, off, strict=True))
    assert any(not torch.equal(a.images, b.images) for a, b in zip(plain, on, strict=True))
    assert "sharpness" not in off[0].attack and off[0].attack == plain[0].attack
    assert on[0].attack["sharpness"] == 5.0


@pytest.mark.parametrize("value", [-0.01, float("nan"), float("inf")])
def test_what_is_no_radius_is_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"sharpness is .*at least 0.*--attack\.sharpness"):
        WitchesBrew(sharpness=value)


def test_runs_with_and_without_it_are_told_apart() -> None:
    assert WitchesBrew(eps="16/255").variant == ""
    assert WitchesBrew(eps="16/255", sharpness=0.05).variant == "sharpness 0.05"


def test_parameters_that_logits_do_not_depend_on_have_no_slope(models) -> None:
    spare = copy.deepcopy(models[0])
    spare.register_parameter("spare", torch.nn.Parameter(torch.ones(3, dtype=torch.float64)))
    found, expected = (goal_gradient(model, TARGETS[0], LABELS[0, 0], 2) for model in (spare, models[0]))
    assert found.pop("spare").tolist() == [0, 0, 0]
    for name, value in expected.items():
        assert torch.equal(found[name], value)
