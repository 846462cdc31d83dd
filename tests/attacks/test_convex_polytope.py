from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from poison_and_defend.attacks import ConvexPolytope, convex_polytope
from poison_and_defend.attacks.crafting.simplex import nearest_combination
from poison_and_defend.attacks.threat.surrogate import CraftBatch
from poison_and_defend.core.errors import InputError
from poison_and_defend.lightning_modules.networks.build import build_network
from tests.attacks.by_hand import (
    SETUPS,
    Adam,
    Array,
    TwoLayers,
    models,
    nearest_weights,
    projected,
    shown_within,
    small_batch,
)

BUDGETS = pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 2.0)])


def residual(features: torch.Tensor, target: torch.Tensor) -> float:
    """Equation (2) for one network, its coefficients by a general solver, from features alone."""
    vertices, point = features.double().numpy(), target.double().numpy()

    def distance(c: np.ndarray) -> float:
        return ((c @ vertices - point) ** 2).sum() / (point**2).sum() / 2

    def slope(c: np.ndarray) -> np.ndarray:
        return vertices @ (c @ vertices - point) / (point**2).sum()

    count = len(vertices)
    constraint = {"type": "eq", "fun": lambda c: c.sum() - 1, "jac": lambda c: np.ones(count)}
    start, bounds = np.full(count, 1 / count), [(0, 1)] * count
    options = {"ftol": 1e-13, "maxiter": 500}
    return minimize(distance, start, jac=slope, bounds=bounds, constraints=[constraint], options=options).fun


def scipy_objective(surrogates, images: torch.Tensor, target: torch.Tensor, end_to_end: bool = False) -> float:
    values = []
    with torch.no_grad():
        for surrogate in surrogates:
            found, wanted = surrogate.blocks(images), surrogate.blocks(target[None])
            pairs = list(zip(found, wanted, strict=True))
            values.append(sum(residual(f, t[0]) for f, t in (pairs if end_to_end else pairs[-1:])))
    return float(np.mean(values))


def batch_of(digits, setups, dtype: torch.dtype = torch.float32) -> CraftBatch:
    train, test = digits.split("train"), digits.split("test")
    rows = torch.stack([torch.from_numpy(s.base_indices) for s in setups])
    targets = test.images[[s.target_index for s in setups]][:, None]
    return CraftBatch(
        train.images[rows].to(dtype) / 255, train.labels[rows], targets.to(dtype) / 255, tuple(s.seed for s in setups)
    )


@pytest.mark.parametrize("end_to_end", [False, True])
def test_objective_is_the_papers_with_the_best_coefficients(digits, setups, surrogates, end_to_end: bool) -> None:
    batch = batch_of(digits, setups)
    seen: list[torch.Tensor] = []
    attack = ConvexPolytope(eps=0.1, steps=2, end_to_end=end_to_end)
    poisons, final = attack.perturb(batch, surrogates, seen.append)
    for images, found in ((batch.bases, seen[0]), (poisons, final)):
        for setup in range(len(setups)):
            expected = scipy_objective(surrogates, images[setup], batch.targets[setup, 0], end_to_end)
            assert found[setup].item() == pytest.approx(expected, rel=2e-3)


def test_first_step_is_adams_against_the_slope_at_those_coefficients(digits, setups, surrogates) -> None:
    batch = batch_of(digits, setups)
    poisons, _ = ConvexPolytope(eps=0.5, steps=1, learning_rate=0.01).perturb(batch, surrogates[:1], lambda value: None)
    setup = 0
    images, target, rate = batch.bases[setup].clone(), batch.targets[setup, 0], 1e-2
    # Adam's first step has one length in every pixel; its direction is that of a difference quotient of the minimum.
    moved = poisons[setup] - images
    free = (images > 0.05) & (images < 0.95)
    for pixel in (free & (moved.abs() > 0.009)).nonzero()[::400]:
        up, down = images.clone(), images.clone()
        up[tuple(pixel)] += rate
        down[tuple(pixel)] -= rate
        slope = scipy_objective(surrogates[:1], up, target) - scipy_objective(surrogates[:1], down, target)
        if abs(slope) > 1e-5:
            assert np.sign(slope) == -moved[tuple(pixel)].sign().item()
    assert moved.abs().max().item() == pytest.approx(0.01, rel=1e-3)


def polytope_slope(surrogates: Sequence[TwoLayers], poisons: Array, target: Array, end_to_end: bool) -> Array:
    """Derivative of equation (2) by the poisons ``(k, C, H, W)`` of one setup, at the best coefficients of every block."""
    total = np.zeros_like(poisons)
    for surrogate in surrogates:
        blocks = []
        for goal, found in zip(surrogate.by_hand(target), surrogate.by_hand(poisons), strict=True):
            weights = nearest_weights(found, goal)
            blocks.append(weights[:, None] * (weights @ found - goal) / (goal**2).sum())
        total += surrogate.slope(poisons, blocks[1], blocks[0] if end_to_end else 0.0) / len(surrogates)
    return total


@pytest.mark.parametrize("end_to_end", [False, True])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.2), ("linf", 0.02), ("l2", 0.5), ("l2", 0.05)])
@pytest.mark.parametrize("steps", [1, 4])
def test_steps_are_adams_at_the_best_coefficients_projected_each_time(
    steps: int, norm: str, eps: float, end_to_end: bool
) -> None:
    batch, surrogates = small_batch(), models()
    attack = ConvexPolytope(eps, norm, steps=steps, learning_rate=0.03, end_to_end=end_to_end, tolerance=1e-14)
    found, _ = attack.perturb(batch, surrogates, lambda value: None)
    bases = batch.bases.numpy()
    for setup in range(SETUPS):
        adam, expected = Adam(), bases[setup]
        for _ in range(steps):
            slope = polytope_slope(surrogates, expected, batch.targets[setup, 0].numpy(), end_to_end)
            expected = projected(expected - adam.step(0.03, slope), bases[setup], norm, eps)
        np.testing.assert_allclose(found[setup].numpy(), expected, rtol=0, atol=1e-7)
    # At every step, and not in the end alone: also what the surrogates are shown is in the budget.
    assert shown_within(surrogates, bases, norm, eps) == 2 * (steps + 1)


@BUDGETS
def test_rounded_poisons_enclose_the_target_better_and_are_in_the_budget(
    craft, surrogates, setups, norm: str, eps: float
) -> None:
    for poisons, setup in zip(craft(ConvexPolytope(eps, norm, steps=20), models=surrogates), setups, strict=True):
        bases, images, target = (x.float() / 255 for x in (poisons.bases, poisons.images, poisons.target))
        assert scipy_objective(surrogates, images, target) < 0.5 * scipy_objective(surrogates, bases, target)
        delta = (poisons.images.numpy().astype(float) - poisons.bases.numpy()).reshape(len(bases), -1) / 255
        assert np.linalg.norm(delta, np.inf if norm == "linf" else 2, axis=1).max() <= eps + 1e-8
        assert poisons.setup is setup


@BUDGETS
def test_same_seed_same_bytes(craft, norm: str, eps: float) -> None:
    attack = ConvexPolytope(eps, norm, steps=4)
    assert all(torch.equal(one.images, two.images) for one, two in zip(craft(attack), craft(attack), strict=True))


@BUDGETS
def test_a_batch_of_setups_equals_one_by_one(digits, setups, norm: str, eps: float) -> None:
    # In double precision: Adam turns the last bit of a vanishing gradient into a whole step.
    model = [build_network("patchnet", in_channels=1, num_classes=10, seed=1).double().eval()]
    attack = ConvexPolytope(eps, norm, steps=6)
    together, _ = attack.perturb(batch_of(digits, setups, torch.float64), model, lambda value: None)
    for row, setup in enumerate(setups):
        alone, _ = attack.perturb(batch_of(digits, [setup], torch.float64), model, lambda value: None)
        torch.testing.assert_close(together[row], alone[0], rtol=0, atol=1e-4)


def test_dropout_is_on_while_crafting_and_as_before_afterwards(craft) -> None:
    model = build_network("convnet", in_channels=1, num_classes=10, seed=1, dropout=0.3).eval()
    one, two = (craft(ConvexPolytope(0.1, steps=3), models=[model]) for _ in range(2))
    model.dropout = 0.0
    without = craft(ConvexPolytope(0.1, steps=3), models=[model])
    assert all(torch.equal(a.images, b.images) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[0].images, without[0].images)
    assert not model.stochastic


def test_surrogates_are_left_as_they_were(craft, surrogates) -> None:
    before = {name: value.clone() for name, value in surrogates[0].state_dict().items()}
    craft(ConvexPolytope(steps=2, end_to_end=True))
    assert all(torch.equal(value, before[name]) for name, value in surrogates[0].state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in surrogates[0].parameters())


@pytest.mark.parametrize("wrong", [{"learning_rate": 0}, {"tolerance": 1}, {"max_iterations": 0}])
def test_settings_out_of_range_are_refused_by_name(wrong) -> None:
    with pytest.raises(InputError, match=rf"\(--attack\.{next(iter(wrong))}\)"):
        ConvexPolytope(**wrong)


def test_a_search_that_is_cut_short_has_worse_coefficients_and_goes_on_at_the_next_step() -> None:
    batch, (model,) = small_batch(), models(1)
    told: dict[int, list[torch.Tensor]] = {1: [], 2: [], 10_000: []}
    for most, seen in told.items():
        attack = ConvexPolytope(0.5, steps=40, learning_rate=1e-12, tolerance=0.0, max_iterations=most)
        attack.perturb(batch, [model], seen.append)
    # One iteration from equal coefficients, by hand: a gradient step of 1 / L, and the nearest point of the simplex.
    for setup in range(SETUPS):
        goal = model.by_hand(batch.targets[setup, 0].numpy())[1]
        offsets = (model.by_hand(batch.bases[setup].numpy())[1] - goal) / np.linalg.norm(goal)
        gram = offsets @ offsets.T
        stepped = 1 / 3 - gram @ np.full(3, 1 / 3) / np.abs(gram).sum(1).max()
        found = nearest_weights(np.eye(3), stepped)
        assert told[1][0][setup].item() == pytest.approx(found @ gram @ found / 2, rel=1e-9)
    assert (told[1][0] >= told[2][0]).all() and (told[2][0] > told[10_000][0] + 1e-9).any()
    # Poisons that hardly move: the search takes up where it stood, one iteration a step.
    assert (told[1][-1] < told[1][0]).any()
    torch.testing.assert_close(told[10_000][-1], told[10_000][0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("tolerance", [1e-6, 3e-4])
def test_coefficients_are_solved_to_the_tolerance_asked_for(
    digits, setups, surrogates, monkeypatch: pytest.MonkeyPatch, tolerance: float
) -> None:
    asked: list[float] = []

    def spy(gram, start, *, tolerance, max_iterations):
        asked.append(tolerance)
        return nearest_combination(gram, start, tolerance=tolerance, max_iterations=max_iterations)

    monkeypatch.setattr(convex_polytope, "nearest_combination", spy)
    ConvexPolytope(eps=0.1, steps=2, tolerance=tolerance).perturb(batch_of(digits, setups), surrogates, lambda _: None)
    assert asked
    assert set(asked) == {tolerance}
