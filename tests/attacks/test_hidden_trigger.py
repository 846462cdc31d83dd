import itertools

import numpy as np
import pytest
import torch

from poison_and_defend.attacks import HiddenTrigger
from poison_and_defend.attacks.base import source_rows
from poison_and_defend.attacks.hidden_trigger import greedy_pairing, paired_distances
from poison_and_defend.attacks.threat.trigger import PatchTrigger
from poison_and_defend.core.errors import InputError
from tests.attacks.by_hand import SETUPS, models, projected, shown_within, small_batch

BUDGETS = pytest.mark.parametrize(("norm", "eps"), [("linf", "32/255"), ("l2", 2.0)])


def attack(norm: str = "linf", eps: float | str = "32/255", steps: int = 3, **rest) -> HiddenTrigger:
    return HiddenTrigger(eps, norm, **{"steps": steps, "learning_rate": 0.05, "tolerance": 0.0} | rest)


def slow_pairing(distances: np.ndarray) -> list[int]:
    """Every pair in order of distance, row and column; taken if both are free."""
    size = len(distances)
    order = sorted(itertools.product(range(size), range(size)), key=lambda pair: (distances[pair], pair))
    columns: dict[int, int] = {}
    for row, column in order:
        if row not in columns and column not in columns.values():
            columns[row] = column
    return [columns[row] for row in range(size)]


@pytest.mark.parametrize("size", [1, 2, 5, 8])
@pytest.mark.parametrize("levels", [3, 1000])
def test_pairing_is_greedy_and_one_to_one_with_and_without_ties(size: int, levels: int) -> None:
    distances = torch.randint(0, levels, (30, size, size), generator=torch.Generator().manual_seed(size)).float()
    kept = distances.clone()
    found = greedy_pairing(distances)
    assert found.tolist() == [slow_pairing(one.numpy()) for one in distances]
    assert found.sort(1).values.tolist() == [list(range(size))] * 30
    assert torch.equal(distances, kept)


def test_pairing_is_greedy_where_the_best_sum_would_be_another() -> None:
    assert greedy_pairing(torch.tensor([[[1.0, 2.0], [3.0, 100.0]]])).tolist() == [[0, 1]]


def expected_pairs(poisons, digits, models) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Rows of the sources and per model their features, computed from the setup alone."""
    train = digits.split("train")
    rows = source_rows(poisons.setup, train.labels, len(poisons.bases))
    stamped = poisons.trigger.stamp(train.images[rows], rows).float() / 255
    with torch.no_grad():
        return rows, [model.features(stamped).double() for model in models]


def numpy_objective(poisons, images, digits, models) -> float:
    _, wanted = expected_pairs(poisons, digits, models)
    with torch.no_grad():
        own = [model.features(images.float() / 255).double() for model in models]
    squares = np.mean([((a[:, None] - b[None]) ** 2).sum(-1).numpy() for a, b in zip(own, wanted, strict=True)], axis=0)
    return float(squares[np.arange(len(images)), slow_pairing(squares)].sum())


@BUDGETS
def test_poisons_come_nearer_to_triggered_sources_in_the_budget(craft, surrogates, digits, norm: str, eps) -> None:
    for poisons in craft(attack(norm, eps, steps=25), models=surrogates):
        start = numpy_objective(poisons, poisons.bases, digits, surrogates)
        assert numpy_objective(poisons, poisons.images, digits, surrogates) < 0.7 * start
        delta = (poisons.images.numpy().astype(float) - poisons.bases.numpy()).reshape(len(poisons.images), -1) / 255
        bound = 32 / 255 if norm == "linf" else 2.0
        assert np.linalg.norm(delta, np.inf if norm == "linf" else 2, axis=1).max() <= bound + 1e-8
        assert (poisons.goal, poisons.visible_trigger) == ("source", False)


@BUDGETS
def test_the_first_step_is_an_independent_computation(craft, surrogates, digits, norm: str, eps) -> None:
    rate = 0.05
    for poisons in craft(attack(norm, eps, steps=1, learning_rate=rate), models=surrogates[:1]):
        _, (wanted,) = expected_pairs(poisons, digits, surrogates[:1])
        images = (poisons.bases.float() / 255).requires_grad_()
        features = surrogates[0].features(images)
        pairing = slow_pairing(((features.detach().double()[:, None] - wanted[None]) ** 2).sum(-1).numpy())
        (gradient,) = torch.autograd.grad(((features - wanted[pairing].float()) ** 2).sum(), [images])
        step = -rate * gradient
        if norm == "linf":
            step = step.clamp(-32 / 255, 32 / 255)
        else:
            step *= (2 / step.flatten(1).norm(dim=1).clamp_min(2))[:, None, None, None]
        expected = ((images.detach() + step).clamp(0, 1) * 255).numpy()
        assert np.abs(expected - poisons.bases.numpy()).max() > 3
        assert np.abs(expected - poisons.images.numpy()).max() <= (0.51 if norm == "linf" else 1.01)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.9), ("linf", 0.02), ("l2", 0.05)])
@pytest.mark.parametrize("every", [1, 2, 3, 100])
def test_steps_descend_at_a_rate_that_falls_after_exactly_so_many(every: int, norm: str, eps: float) -> None:
    batch, surrogates = small_batch(), models()
    rate, decay, steps = 0.03, 0.25, 5
    settings = {"steps": steps, "learning_rate": rate, "decay": decay, "decay_every": every, "tolerance": 0.0}
    found, _ = HiddenTrigger(eps, norm, **settings).perturb(batch, surrogates, lambda value: None)
    bases = batch.bases.numpy()
    for setup in range(SETUPS):
        wanted = [surrogate.by_hand(batch.sources[setup].numpy())[1] for surrogate in surrogates]
        expected = bases[setup]
        for step in range(steps):
            own = [surrogate.by_hand(expected)[1] for surrogate in surrogates]
            squares = np.mean([((a[:, None] - b[None]) ** 2).sum(-1) for a, b in zip(own, wanted, strict=True)], axis=0)
            pairing = slow_pairing(squares)
            slope = np.zeros_like(expected)
            for surrogate, a, b in zip(surrogates, own, wanted, strict=True):
                slope += surrogate.slope(expected, 2 * (a - b[pairing])) / len(surrogates)
            # Steps are counted from 1: the rate falls after step `every`, for the one that follows.
            expected = projected(expected - rate * decay ** (step // every) * slope, bases[setup], norm, eps)
        np.testing.assert_allclose(found[setup].numpy(), expected, rtol=0, atol=1e-9)
    assert shown_within(surrogates, bases, norm, eps, but=batch.sources) == 2 * (steps + 1)


@BUDGETS
def test_same_seed_same_bytes_and_a_batch_equals_one_by_one(craft, setups, norm: str, eps) -> None:
    for one, two, setup in zip(craft(attack(norm, eps)), craft(attack(norm, eps)), setups, strict=True):
        (alone,) = craft(attack(norm, eps), [setup])
        assert torch.equal(one.images, two.images)
        assert (one.images.int() - alone.images.int()).abs().max() <= 1


@BUDGETS
def test_only_own_rows_change_and_surrogates_do_not(craft, surrogates, digits, setups, norm: str, eps) -> None:
    before = [{name: value.clone() for name, value in model.state_dict().items()} for model in surrogates]
    train, test = digits.split("train"), digits.split("test")
    fresh = type(digits)().split("train").images
    for poisons, setup in zip(craft(attack(norm, eps), models=surrogates), setups, strict=True):
        assert poisons.setup is setup and torch.equal(poisons.bases, fresh[setup.base_indices])
        assert not torch.equal(poisons.images, poisons.bases)
        poisons.check_against(train.images, train.labels, test.labels)
    assert torch.equal(train.images, fresh)
    for model, old in zip(surrogates, before, strict=True):
        assert all(torch.equal(value, old[name]) for name, value in model.state_dict().items())
        assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_the_objective_is_the_sum_over_pairs_before_rounding(craft, digits, surrogates) -> None:
    seen: list[list[float]] = []
    crafted = craft(attack(steps=2), models=surrogates, progress=lambda objective: seen.append(objective.tolist()))
    assert seen[0] == pytest.approx([numpy_objective(p, p.bases, digits, surrogates) for p in crafted], rel=1e-3)
    assert [p.objective for p in crafted] == pytest.approx(
        [numpy_objective(p, p.images, digits, surrogates) for p in crafted], rel=0.05
    )


def test_a_setup_stops_when_its_worst_pair_is_close_enough_and_alone(craft, digits, surrogates) -> None:
    train = digits.split("train")
    worst = []
    for poisons in craft(attack(steps=1)):
        _, (wanted,) = expected_pairs(poisons, digits, surrogates[:1])
        with torch.no_grad():
            own = surrogates[0].features(train.images[poisons.setup.base_indices].float() / 255)
        worst.append(paired_distances([own[None]], [wanted[None].float()]).max().item())
    middle = sorted(worst)[1] + 1e-3
    for poisons, start in zip(craft(attack(steps=2, tolerance=middle)), worst, strict=True):
        assert torch.equal(poisons.images, poisons.bases) == (start <= middle)
    steps: list[torch.Tensor] = []
    craft(attack(steps=50, tolerance=max(worst) + 1), progress=steps.append)
    assert len(steps) == 1


def test_the_rate_decays_every_so_many_steps(craft) -> None:
    halved = craft(attack(steps=4, learning_rate=0.004, decay=1e-9, decay_every=2))
    for one, two in zip(halved, craft(attack(steps=2, learning_rate=0.004)), strict=True):
        assert (one.images.int() - two.images.int()).abs().max() <= 1


def test_bad_arguments_are_refused() -> None:
    for option, value in (("learning_rate", 0), ("decay", 0), ("decay", 1.5), ("decay_every", 0), ("tolerance", -1)):
        with pytest.raises(InputError, match=rf"--attack\.{option}"):
            HiddenTrigger(**{option: value})
    assert HiddenTrigger(trigger=PatchTrigger(5)).arguments()["trigger"]["size"] == 5


def test_the_sum_is_a_stricter_stop_than_the_worst(craft) -> None:
    steps, start = {}, []
    craft(HiddenTrigger(steps=1, tolerance=0.0), progress=lambda objective: start.append(objective.max().item()))
    for rule in ("worst", "sum"):
        seen: list[list[float]] = []
        # Each of four distances is below half of their sum long before the sum is.
        attack = HiddenTrigger("128/255", steps=60, learning_rate=0.1, decay_every=100, tolerance=start[0] / 2, stop_on=rule)
        craft(attack, progress=lambda objective, seen=seen: seen.append(objective.tolist()))
        steps[rule] = len(seen)
    assert steps["worst"] < steps["sum"]
    with pytest.raises(InputError, match=r"stop_on is 'mean'.*--attack.stop_on"):
        HiddenTrigger(stop_on="mean")
