from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from poison_and_defend.attacks import BullseyePolytope
from poison_and_defend.attacks.bullseye_polytope import bullseye_objective
from poison_and_defend.attacks.crafting.dropout import dropout_kept_on, setup_features
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.surrogate import CraftBatch
from poison_and_defend.core.errors import InputError
from poison_and_defend.lightning_modules.networks.build import build_network
from tests.attacks.by_hand import SETUPS, Adam, Array, TwoLayers, models, projected, shown_within, small_batch

BUDGETS = pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 2.0)])


def numpy_objective(poisons: PoisonSet, images: torch.Tensor, surrogates) -> float:
    """Equation (3) with coefficients 1/k, in double precision, from features alone."""
    values = []
    with torch.no_grad():
        for surrogate in surrogates:
            target = surrogate.features(poisons.target[None].float() / 255).double().numpy()[0]
            features = surrogate.features(images.float() / 255).double().numpy()
            values.append(np.sqrt(((target - features.mean(0)) ** 2).sum()) / np.sqrt((target**2).sum()))
    return float(np.mean(values))


def batch_of(digits, setups, dtype: torch.dtype = torch.float32) -> CraftBatch:
    train, test = digits.split("train"), digits.split("test")
    rows = torch.stack([torch.from_numpy(s.base_indices) for s in setups])
    targets = test.images[[s.target_index for s in setups]][:, None]
    return CraftBatch(
        train.images[rows].to(dtype) / 255, train.labels[rows], targets.to(dtype) / 255, tuple(s.seed for s in setups)
    )


@pytest.fixture(scope="module")
def crafted(craft) -> list[PoisonSet]:
    return craft(BullseyePolytope(eps=0.1, steps=25))


def test_objective_is_the_papers(crafted, surrogates) -> None:
    images = torch.stack([p.images for p in crafted]).float() / 255
    with torch.no_grad():
        centres = [[s.features(torch.stack([p.target for p in crafted]).float() / 255)] for s in surrogates]
        found = bullseye_objective(images, centres, surrogates).tolist()
    assert found == pytest.approx([numpy_objective(p, p.images, surrogates) for p in crafted], rel=1e-4)


def test_objective_is_zero_when_the_target_is_the_centre(surrogates) -> None:
    target = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        centres = [[surrogates[0].features(target)]]
        assert bullseye_objective(target[:, None].expand(-1, 3, -1, -1, -1), centres, surrogates[:1]).max() < 1e-5


def test_a_target_that_no_unit_responds_to_gives_numbers_all_the_same(surrogates) -> None:
    target = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        nothing = [[torch.zeros_like(surrogates[0].features(target))]]
        poisons = target[:, None].expand(-1, 3, -1, -1, -1)
        assert bullseye_objective(poisons, nothing, surrogates[:1]).isfinite().all()


@BUDGETS
def test_rounded_poisons_are_nearer_to_the_target_and_in_the_budget(craft, surrogates, norm: str, eps: float) -> None:
    for poisons in craft(BullseyePolytope(eps, norm, steps=25), models=surrogates):
        start = numpy_objective(poisons, poisons.bases, surrogates)
        assert numpy_objective(poisons, poisons.images, surrogates) < 0.6 * start
        delta = (poisons.images.numpy().astype(float) - poisons.bases.numpy()).reshape(len(poisons.images), -1) / 255
        assert np.linalg.norm(delta, np.inf if norm == "linf" else 2, axis=1).max() <= eps + 1e-8


def test_reported_objective_is_that_of_the_poisons_before_rounding(digits, setups, surrogates) -> None:
    batch = batch_of(digits, setups)
    poisons, objective = BullseyePolytope(eps=0.1, steps=3).perturb(batch, surrogates[:1], lambda value: None)
    for setup in range(len(setups)):
        with torch.no_grad():
            target, *features = surrogates[0].features(torch.stack([batch.targets[setup, 0], *poisons[setup]])).numpy()
        expected = np.linalg.norm(target - np.mean(features, 0)) / np.linalg.norm(target)
        assert objective[setup].item() == pytest.approx(expected, rel=1e-4)


def test_the_step_sequence_falls(craft) -> None:
    seen = []
    final = craft(BullseyePolytope(eps=0.1, steps=12), progress=lambda objective: seen.append(objective.tolist()))
    assert np.array(seen).shape == (12, 3)
    assert (np.array(seen)[-1] < 0.8 * np.array(seen)[0]).all()
    assert all(poisons.objective < first for poisons, first in zip(final, seen[0], strict=True))


def bullseye_slope(surrogates: Sequence[TwoLayers], poisons: Array, target: Array, end_to_end: bool) -> Array:
    """Derivative of equation (3) with coefficients 1/k by the poisons ``(k, C, H, W)`` of one setup."""
    total = np.zeros_like(poisons)
    for surrogate in surrogates:
        blocks = []
        for goal, found in zip(surrogate.by_hand(target), surrogate.by_hand(poisons), strict=True):
            away = found.mean(0) - goal
            slope = away / np.linalg.norm(away) / np.linalg.norm(goal) / len(poisons)
            blocks.append(np.broadcast_to(slope, found.shape))
        of_first, of_second = (blocks[0] / 2, blocks[1] / 2) if end_to_end else (0.0, blocks[1])
        total += surrogate.slope(poisons, of_second, of_first) / len(surrogates)
    return total


@pytest.mark.parametrize("end_to_end", [False, True])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.2), ("linf", 0.02), ("l2", 0.5), ("l2", 0.05)])
@pytest.mark.parametrize("steps", [1, 4])
def test_steps_are_adams_on_the_papers_slope_projected_each_time(steps: int, norm: str, eps: float, end_to_end: bool) -> None:
    batch, surrogates = small_batch(), models()
    attack = BullseyePolytope(eps, norm, steps=steps, learning_rate=0.03, end_to_end=end_to_end)
    found, _ = attack.perturb(batch, surrogates, lambda value: None)
    bases = batch.bases.numpy()
    for setup in range(SETUPS):
        adam, expected = Adam(), bases[setup]
        for _ in range(steps):
            slope = bullseye_slope(surrogates, expected, batch.targets[setup, 0].numpy(), end_to_end)
            expected = projected(expected - adam.step(0.03, slope), bases[setup], norm, eps)
        np.testing.assert_allclose(found[setup].numpy(), expected, rtol=0, atol=1e-9)
    # At every step, and not in the end alone: also what the surrogates are shown is in the budget.
    assert shown_within(surrogates, bases, norm, eps) == 2 * (steps + 1)


def test_poisons_are_made_from_the_setups_own_rows(crafted, setups, digits) -> None:
    train, test = digits.split("train"), digits.split("test")
    for poisons, setup in zip(crafted, setups, strict=True):
        assert poisons.setup is setup
        assert torch.equal(poisons.bases, train.images[setup.base_indices])
        assert torch.equal(poisons.target, test.images[setup.target_index])
        poisons.check_against(train.images, train.labels, test.labels)


def test_the_training_set_is_left_as_it_was(crafted, digits, setups) -> None:
    fresh = type(digits)().split("train").images
    assert torch.equal(digits.split("train").images, fresh)
    assert not torch.equal(crafted[0].images, crafted[0].bases)


def test_same_seed_same_bytes(crafted, craft) -> None:
    for one, two in zip(crafted, craft(BullseyePolytope(eps=0.1, steps=25)), strict=True):
        assert torch.equal(one.images, two.images)


def test_a_batch_of_setups_equals_one_by_one(craft, setups) -> None:
    # Few steps, nearly all values: Adam turns the last bit of a vanishing gradient into a whole step, on some processors early.
    for together, setup in zip(craft(BullseyePolytope(eps=0.1, steps=5)), setups, strict=True):
        (alone,) = craft(BullseyePolytope(eps=0.1, steps=5), [setup])
        assert ((together.images.int() - alone.images.int()).abs() > 1).float().mean() < 0.002


def test_a_batch_of_setups_equals_one_by_one_in_double_precision_for_as_long_as_one_likes(digits, setups) -> None:
    model = [build_network("patchnet", in_channels=1, num_classes=10, seed=1).double().eval()]
    attack = BullseyePolytope(eps=0.1, steps=60)
    together, _ = attack.perturb(batch_of(digits, setups, torch.float64), model, lambda value: None)
    for row, setup in enumerate(setups):
        alone, _ = attack.perturb(batch_of(digits, [setup], torch.float64), model, lambda value: None)
        torch.testing.assert_close(together[row], alone[0], rtol=0, atol=1e-4)


def test_surrogates_are_left_as_they_were(craft, surrogates) -> None:
    before = [{name: value.clone() for name, value in s.state_dict().items()} for s in surrogates]
    marks = [torch.full_like(p, 3) for s in surrogates for p in s.parameters()]
    for parameter, mark in zip((p for s in surrogates for p in s.parameters()), marks, strict=True):
        parameter.grad = mark.clone()
    try:
        craft(BullseyePolytope(eps=0.1, steps=2), models=surrogates)
        for surrogate, old in zip(surrogates, before, strict=True):
            assert all(torch.equal(value, old[name]) for name, value in surrogate.state_dict().items())
            assert all((p.grad == 3).all() and p.requires_grad for p in surrogate.parameters())
    finally:
        for surrogate in surrogates:
            surrogate.zero_grad(set_to_none=True)


def test_end_to_end_averages_over_blocks(digits, setups, surrogates) -> None:
    batch = batch_of(digits, setups)
    seen = []
    _, final = BullseyePolytope(eps=0.1, steps=8, end_to_end=True).perturb(batch, surrogates, seen.append)
    for setup in range(len(setups)):
        values = []
        for surrogate in surrogates:
            with torch.no_grad():
                blocks = surrogate.blocks(torch.stack([batch.targets[setup, 0], *batch.bases[setup]]))
            assert len(blocks) == 4
            for target, *features in (block.double().numpy() for block in blocks):
                values.append(np.linalg.norm(target - np.mean(features, 0)) / np.linalg.norm(target))
        assert seen[0][setup].item() == pytest.approx(np.mean(values), rel=1e-4)
    assert (final < 0.9 * seen[0]).all()


def test_several_targets_are_met_at_their_mean(digits, setups, surrogates) -> None:
    batch = batch_of(digits, setups)
    batch = replace(batch, targets=torch.cat([batch.targets, batch.targets.flip(0)], 1))
    _, found = BullseyePolytope(eps=0.1, steps=1, learning_rate=1e-9).perturb(batch, surrogates[:1], lambda value: None)
    for setup in range(len(setups)):
        with torch.no_grad():
            one, two, *features = surrogates[0].features(torch.cat([batch.targets[setup], batch.bases[setup]])).numpy()
        centre = (one + two) / 2
        expected = np.linalg.norm(centre - np.mean(features, 0)) / np.linalg.norm(centre)
        assert found[setup].item() == pytest.approx(expected, rel=1e-4)


@pytest.fixture
def dropping():
    return build_network("convnet", in_channels=1, num_classes=10, seed=1, dropout=0.3).eval()


def test_draws_average_dropout_masks_that_the_seed_decides(digits, setups, dropping) -> None:
    batch = batch_of(digits, setups)
    state = torch.get_rng_state()
    found = {}
    for draws in (1, 300):
        with torch.no_grad(), dropout_kept_on([dropping], batch):
            (found[draws],) = setup_features(dropping, batch.bases[:1], draws=draws)
        assert not dropping.stochastic
    with torch.no_grad(), dropout_kept_on([dropping], batch):
        single = [dropping.features(batch.bases[0]) for _ in range(300)]
    assert torch.equal(found[1][0], single[0])
    expected = torch.stack(single).mean(0)
    assert (found[300][0] - expected).norm() < 0.2 * (found[1][0] - expected).norm()
    assert torch.equal(torch.get_rng_state(), state)


def test_with_draws_the_same_seed_gives_the_same_bytes(craft, dropping) -> None:
    run = [craft(BullseyePolytope(eps=0.1, steps=4, draws=draws), models=[dropping]) for draws in (3, 3, 1)]
    assert all(torch.equal(one.images, two.images) for one, two in zip(run[0], run[1], strict=True))
    assert not torch.equal(run[0][0].images, run[2][0].images)
    assert not dropping.stochastic
    for poisons in run[0]:
        assert (poisons.images.int() - poisons.bases.int()).abs().max() <= 25


def test_the_objective_of_crafting_with_dropout_is_measured_without(digits, setups, dropping, surrogates) -> None:
    batch = batch_of(digits, setups)
    poisons, found = BullseyePolytope(eps=0.1, steps=2, draws=2).perturb(batch, [dropping], lambda value: None)
    with torch.no_grad():
        centres = [[surrogates[0].features(batch.targets[:, 0])]]  # the same weights, without dropout
        torch.testing.assert_close(found, bullseye_objective(poisons, centres, surrogates[:1]))


def test_dropout_is_restored_when_crafting_fails(digits, setups, dropping) -> None:
    with pytest.raises(RuntimeError, match="stop"), dropout_kept_on([dropping], batch_of(digits, setups)):
        assert dropping.stochastic
        raise RuntimeError("stop")
    assert not dropping.stochastic


def test_draws_without_dropout_or_below_one_are_refused(craft) -> None:
    with pytest.raises(InputError, match=r"draws is 3, but no surrogate has dropout"):
        craft(BullseyePolytope(draws=3))
    with pytest.raises(InputError, match=r"\(--attack\.draws\)"):
        BullseyePolytope(draws=0)
