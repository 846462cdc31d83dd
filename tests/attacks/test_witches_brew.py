from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from poison_and_defend.attacks import WitchesBrew
from poison_and_defend.attacks.threat.surrogate import CraftBatch
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


def brew(steps: int = 6, restarts: int = 1, **rest) -> WitchesBrew:
    """Without augmentation unless asked for."""
    return WitchesBrew(**{"eps": "16/255", "max_shift": 0.0, "flip": False} | rest, steps=steps, restarts=restarts)


@pytest.fixture(scope="module")
def batch(digits, setups) -> CraftBatch:
    train, test = digits.split("train"), digits.split("test")
    rows = torch.stack([torch.from_numpy(s.base_indices) for s in setups])
    targets = test.images[[s.target_index for s in setups]][:, None].float() / 255
    return CraftBatch(train.images[rows].float() / 255, train.labels[rows], targets, tuple(s.seed for s in setups))


def perturb(attack: WitchesBrew, batch: CraftBatch, surrogates: Sequence[Classifier]) -> tuple[Tensor, Tensor, np.ndarray]:
    seen: list[list[float]] = []
    poisons, objective = attack.perturb(batch, surrogates, lambda value: seen.append(value.tolist()))
    return poisons, objective, np.array(seen)


def matching(model: Classifier, poisons: Tensor, batch: CraftBatch, setup: int) -> Tensor:
    """B of one setup by plain autograd over the concatenated parameters."""
    wanted = batch.base_labels[setup, : batch.targets.shape[1]]
    parameters = list(model.parameters())
    goal = torch.autograd.grad(functional.cross_entropy(model(batch.targets[setup]), wanted), parameters)
    loss = functional.cross_entropy(model(poisons), batch.base_labels[setup])
    own = torch.autograd.grad(loss, parameters, create_graph=True)
    return 1 - functional.cosine_similarity(*(torch.cat([g.flatten() for g in side]) for side in (own, goal)), dim=0)


def test_first_step_is_signed_descent_on_the_mean_over_surrogates(batch, surrogates) -> None:
    attack = brew(steps=1, learning_rate=0.01)
    found, _, seen = perturb(attack, batch, surrogates)
    for setup, seed in enumerate(batch.seeds):
        noise = torch.randn(batch.bases.shape[1:], generator=torch.Generator().manual_seed(seed)) * 16 / 255
        bases = batch.bases[setup]
        start = (bases + noise.clamp(-16 / 255, 16 / 255)).clamp(0, 1).requires_grad_()
        value = sum(matching(model, start, batch, setup) for model in surrogates) / len(surrogates)
        (gradient,) = torch.autograd.grad(value, [start])
        assert seen[0, setup] == pytest.approx(value.item(), abs=1e-5)
        # The authors divide the step by the number of surrogates.
        expected = (start - 0.01 / len(surrogates) * gradient.sign()).detach()
        expected = torch.minimum(torch.maximum(expected, bases - 16 / 255), bases + 16 / 255).clamp(0, 1)
        # Only where the gradient is nearly zero may rounding turn a sign.
        assert ((found[setup] - expected).abs() < 1e-5).float().mean() > 0.99


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.2), ("linf", 0.02), ("l2", 0.8), ("l2", 0.05)])
@pytest.mark.parametrize("steps", [1, 8])
def test_steps_are_signed_adams_on_the_papers_slope_projected_each_time(steps: int, norm: str, eps: float) -> None:
    batch, (model,) = small_batch(), models(1)
    attack = brew(steps=steps, eps=eps, norm=norm, learning_rate=0.03)
    found, _ = attack.perturb(batch, [model], lambda value: None)
    shown = [images for images in model.seen if images.shape == (POISONS, *SHAPE)]
    assert len(shown) == SETUPS * (steps + 1)
    # Tenfold less after 3, 5 and 7 of 8 steps; one step is the whole of its path.
    rates = [0.03] * 3 + [0.003] * 2 + [3e-4] * 2 + [3e-5]
    for setup, (seed, bases) in enumerate(zip(batch.seeds, batch.bases.numpy(), strict=True)):
        # Drawn in single precision, hence the tolerances.
        noise = torch.randn(bases.shape, generator=torch.Generator().manual_seed(seed)).double().numpy()
        adam, expected = Adam(), projected(bases + eps * noise, bases, norm, eps)
        goal = loss_gradient(model, batch.targets[setup], batch.base_labels[setup, 0]).detach()
        for step in range(steps):
            np.testing.assert_allclose(shown[step * SETUPS + setup], expected, rtol=0, atol=1e-7)
            images = torch.from_numpy(expected).requires_grad_()
            own = loss_gradient(model, images, batch.base_labels[setup, 0])
            matching = 1 - (own * goal).sum() / ((own * own).sum() * (goal * goal).sum()).sqrt()
            slope = torch.autograd.grad(matching, images)[0].numpy()
            expected = projected(expected - adam.step(rates[step], np.sign(slope)), bases, norm, eps)
        np.testing.assert_allclose(found[setup].numpy(), expected, rtol=0, atol=1e-7)


def test_rate_falls_tenfold_at_three_five_and_seven_eighths(monkeypatch: pytest.MonkeyPatch) -> None:
    attack = brew(steps=16, eps=1, learning_rate=0.01)
    dark = CraftBatch(torch.zeros(1, 1, 1, 2, 2), torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, 1, 2, 2), (0,))
    path = []

    def uphill(poisons: Tensor, *_) -> tuple[Tensor, Tensor]:
        path.append(poisons.mean().item())
        return -torch.ones_like(poisons), torch.zeros(1)

    monkeypatch.setattr(attack, "_start", lambda bases, generators: bases.clone())
    monkeypatch.setattr(attack, "_gradient", uphill)
    monkeypatch.setattr(attack, "_goals", lambda batch, models: [])
    attack.perturb(dark, [nn.Identity()], lambda objective: None)
    assert np.diff(path) == pytest.approx([1e-2] * 6 + [1e-3] * 4 + [1e-4] * 4 + [1e-5] * 2, rel=1e-2)


def test_more_restarts_never_end_higher(batch, surrogates) -> None:
    results = [perturb(brew(steps=3, restarts=count), batch, surrogates[:1]) for count in (1, 2, 4)]
    for (_, fewer, one), (_, more, two) in pairwise(results):
        assert (more <= fewer + 1e-6).all()
        assert (two <= one + 1e-6).all()
    assert (results[2][1] < results[0][1] - 1e-4).any()


def test_the_best_restart_is_kept_setup_by_setup(batch, surrogates, monkeypatch: pytest.MonkeyPatch) -> None:
    attack = brew(steps=2, restarts=4, max_shift=0.125, flip=True)
    seen: list[tuple[Tensor, Tensor]] = []
    original: Callable[..., tuple[Tensor, Tensor]] = attack._gradient
    handicap = torch.tensor([[0.0, 1, 1], [1, 1, 0], [1, 1, 1], [1, 0, 1]]).flatten()

    def recording(poisons: Tensor, *rest) -> tuple[Tensor, Tensor]:
        gradient, objective = original(poisons, *rest)
        objective = objective + handicap  # so that the setups prefer different restarts
        seen.append((poisons.clone(), objective))
        return gradient, objective

    monkeypatch.setattr(attack, "_gradient", recording)
    best, lowest, _ = perturb(attack, batch, surrogates[:1])
    assert len(seen) == 3
    poisons, finals = seen[-1][0].unflatten(0, (4, 3)), seen[-1][1].view(4, 3)
    assert finals.argmin(0).tolist() == [0, 3, 1]
    assert torch.equal(lowest, finals.min(0).values)
    for setup, restart in enumerate(finals.argmin(0)):
        assert torch.equal(best[setup], poisons[restart, setup])


def test_several_targets_share_one_mean_gradient(batch, surrogates) -> None:
    both = replace(batch, targets=torch.cat([batch.targets, batch.targets.flip(0)], dim=1))
    poisons, objective, _ = perturb(brew(steps=2), both, surrogates[:1])
    expected = [matching(surrogates[0], poisons[setup], both, setup).item() for setup in range(3)]
    assert objective.tolist() == pytest.approx(expected, abs=1e-5)


def test_surrogate_with_broken_weights_is_refused_before_a_step(batch, surrogates) -> None:
    broken = build_network("convnet", in_channels=1, num_classes=10, seed=1).eval()
    torch.nn.init.constant_(broken.head.weight, float("nan"))
    steps: list[Tensor] = []
    with pytest.raises(InputError, match=r"surrogate 1 has no finite gradient.*setup 0.*--feature_recipe.learning_rate"):
        brew(steps=5).perturb(batch, [surrogates[0], broken], steps.append)
    assert not steps


def test_poisons_without_a_finite_gradient_are_refused_within_a_step(batch, surrogates) -> None:
    bases = batch.bases.clone()
    bases[1, 0, 0, 0, 0] = float("nan")
    steps: list[Tensor] = []
    with pytest.raises(InputError, match=rf"setup 1 of its batch \(seed {batch.seeds[1]}\)"):
        brew(steps=5).perturb(replace(batch, bases=bases), surrogates[:1], steps.append)
    assert not steps


@pytest.mark.parametrize("rest", [{}, {"max_shift": 0.125}])
def test_objective_falls_on_digits(batch, surrogates, rest: dict) -> None:
    _, final, seen = perturb(brew(steps=20, eps="32/255", learning_rate=0.04, **rest), batch, surrogates[:1])
    assert (final.numpy() < 0.9 * seen[0]).all()


def test_reported_objective_is_that_of_the_poisons(batch, surrogates) -> None:
    poisons, objective, _ = perturb(brew(steps=2), batch, surrogates[:1])
    expected = [matching(surrogates[0], poisons[setup], batch, setup).item() for setup in range(3)]
    assert objective.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 1.5)])
def test_budget_holds_after_rounding(craft, norm: str, eps: float) -> None:
    for poisons in craft(brew(steps=4, eps=eps, norm=norm, max_shift=0.125, flip=True)):
        delta = (poisons.images.numpy().astype(float) - poisons.bases.numpy()).reshape(len(poisons.images), -1) / 255
        sizes = np.linalg.norm(delta, np.inf if norm == "linf" else 2, axis=1)
        assert sizes.max() <= eps + 1e-8
        assert sizes.min() > 0.5 * eps


def test_same_seed_same_bytes_and_another_seed_others(craft, setups) -> None:
    attack = brew(steps=2, restarts=2, max_shift=0.125)
    one, two = craft(attack), craft(attack)
    assert all(torch.equal(a.images, b.images) for a, b in zip(one, two, strict=True))
    (other,) = craft(attack, [type(setups[0])(**vars(setups[0]) | {"seed": 5})])
    assert not torch.equal(other.images, one[0].images)


def test_a_batch_of_setups_equals_one_by_one(craft, setups) -> None:
    attack = brew(steps=2, restarts=2, max_shift=0.125, flip=True)
    for together, setup in zip(craft(attack), setups, strict=True):
        (alone,) = craft(attack, [setup])
        assert together.objective == pytest.approx(alone.objective, abs=1e-4)
        assert ((together.images.int() - alone.images.int()).abs() <= 1).float().mean() > 0.99


def test_surrogates_are_left_as_they_were(batch, surrogates) -> None:
    before = {name: value.clone() for name, value in surrogates[0].state_dict().items()}
    perturb(brew(steps=2), batch, surrogates[:1])
    assert all(torch.equal(value, before[name]) for name, value in surrogates[0].state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in surrogates[0].parameters())
