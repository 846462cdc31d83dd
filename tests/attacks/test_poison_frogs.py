import numpy as np
import pytest
import torch

from poison_and_defend.attacks import PoisonFrogs
from poison_and_defend.attacks.threat.surrogate import CraftBatch
from poison_and_defend.core.errors import InputError
from tests.attacks.by_hand import SETUPS, models, projected, shown_within, small_batch

BUDGETS = pytest.mark.parametrize(("norm", "eps"), [("linf", 0.25), ("l2", 5.0)])


def batch_of(digits, setups) -> CraftBatch:
    train, test = digits.split("train"), digits.split("test")
    rows = torch.stack([torch.from_numpy(s.base_indices) for s in setups])
    targets = test.images[[s.target_index for s in setups]][:, None]
    return CraftBatch(train.images[rows] / 255, train.labels[rows], targets / 255, tuple(s.seed for s in setups))


def quiet(objective: torch.Tensor) -> None:
    del objective


def distances(surrogates, images: torch.Tensor, target: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return np.mean(
            [
                ((s.features(images).double() - s.features(target[None]).double()) ** 2).sum(-1).numpy() for s in surrogates
            ],
            0,
        )  # fmt: skip


def test_first_step_equals_an_independent_computation_for_each_poison(digits, setups, surrogates) -> None:
    batch = batch_of(digits, setups)
    rate, beta0, gamma = 1e-4, 0.02, 0.2
    attack = PoisonFrogs(learning_rate=rate, beta=beta0, watermark=gamma, steps=1)
    poisons, objective = attack.perturb(batch, surrogates, quiet)
    beta = beta0 * (64 / 1024) ** 2 * 255**2
    for setup in range(len(setups)):
        target, values = batch.targets[setup, 0], []
        for poison, base in zip(poisons[setup], batch.bases[setup], strict=True):
            blend = gamma * target + (1 - gamma) * base
            x = blend.clone().requires_grad_()
            with torch.enable_grad():
                loss = sum((s.features(x[None]) - s.features(target[None])).square().sum() for s in surrogates) / 2
            (slope,) = torch.autograd.grad(loss, [x])
            expected = ((blend - rate * slope + rate * beta * blend) / (1 + rate * beta)).clamp(0, 1)
            torch.testing.assert_close(poison, expected, rtol=0, atol=1e-5)
            own = distances(surrogates, poison[None], target)[0] + beta * (poison - blend).square().sum().item()
            values.append(own)
        assert objective[setup].item() == pytest.approx(np.mean(values), rel=1e-4)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 1.0), ("linf", 0.02), ("l2", 0.05)])
@pytest.mark.parametrize("steps", [1, 3])
def test_steps_are_forward_backward_splitting_projected_each_time(steps: int, norm: str, eps: float) -> None:
    batch, surrogates = small_batch(), models()
    rate, beta0, gamma = 0.05, 1e-4, 0.2
    attack = PoisonFrogs(eps, norm, steps=steps, learning_rate=rate, beta=beta0, watermark=gamma, memory=40)
    found, _ = attack.perturb(batch, surrogates, quiet)
    # The paper's beta for pixels from 0 to 255; 5 features, 16 pixels.
    beta = beta0 * (5 / 16) ** 2 * 255**2
    bases = batch.bases.numpy()
    for setup in range(SETUPS):
        target = batch.targets[setup, 0].numpy()
        anchor = projected(gamma * target + (1 - gamma) * bases[setup], bases[setup], norm, eps)
        expected = anchor
        for _ in range(steps):
            slope = np.zeros_like(expected)
            for surrogate in surrogates:
                away = surrogate.by_hand(expected)[1] - surrogate.by_hand(target)[1]
                slope += surrogate.slope(expected, 2 * away) / len(surrogates)
            backward = (expected - rate * slope + rate * beta * anchor) / (1 + rate * beta)
            expected = projected(backward, bases[setup], norm, eps)
        np.testing.assert_allclose(found[setup].numpy(), expected, rtol=0, atol=1e-9)
        assert np.abs(expected - anchor).max() > 0.001
    assert shown_within(surrogates, bases, norm, eps) == 2 * (steps + 1)


def test_each_poison_is_finished_by_its_own_relative_change_and_then_stands_still() -> None:
    batch, (model,) = small_batch(), models(1)
    rate, bases = 0.02, batch.bases.numpy()

    def stepped(images: np.ndarray) -> np.ndarray:
        away = model.by_hand(images)[1] - model.by_hand(batch.targets.numpy())[1]
        return projected(images - rate * model.slope(images, 2 * away), bases, "linf", 1.0)

    def change(after: np.ndarray, images: np.ndarray) -> np.ndarray:
        return np.sqrt(((after - images) ** 2).sum((2, 3, 4)) / (images**2).sum((2, 3, 4)))

    # Half of the six are finished with their first step, which is still taken.
    tolerance = float(np.median(change(stepped(bases), bases)))
    expected, active = bases, np.ones((SETUPS, 3), bool)
    for _ in range(4):
        after = stepped(expected)
        moved = np.where(active[..., None, None, None], after, expected)
        active &= change(after, expected) > tolerance
        expected = moved
    attack = PoisonFrogs(1.0, steps=4, learning_rate=rate, beta=0.0, tolerance=tolerance)
    found, _ = attack.perturb(batch, [model], quiet)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-9)
    assert 0 < (expected == stepped(bases)).all((2, 3, 4)).sum() < 6


@BUDGETS
def test_rounded_poisons_are_nearer_to_the_target_and_in_the_budget(craft, surrogates, setups, norm: str, eps: float) -> None:
    attack = PoisonFrogs(eps, norm, steps=30, beta=0)
    for poisons, setup in zip(craft(attack, models=surrogates), setups, strict=True):
        target = poisons.target.float() / 255
        start = distances(surrogates, poisons.bases.float() / 255, target)
        assert (distances(surrogates, poisons.images.float() / 255, target) < 0.5 * start).all()
        delta = (poisons.images.numpy().astype(float) - poisons.bases.numpy()).reshape(len(poisons.images), -1) / 255
        assert np.linalg.norm(delta, np.inf if norm == "linf" else 2, axis=1).max() <= eps + 1e-8
        assert poisons.setup is setup


def test_beta_holds_poisons_at_their_bases(digits, setups, surrogates) -> None:
    batch = batch_of(digits, setups)
    lengths = []
    for beta in (0.0, 0.01, 1.0):
        poisons, _ = PoisonFrogs(steps=15, beta=beta).perturb(batch, surrogates[:1], quiet)
        lengths.append((poisons - batch.bases).flatten(2).norm(dim=-1).mean().item())
    assert lengths[0] > 1.2 * lengths[1] > 1.4 * lengths[2]


def test_a_step_that_is_too_long_is_not_taken_but_shortened(digits, setups, surrogates) -> None:
    batch = batch_of(digits, setups)
    seen: list[torch.Tensor] = []
    attack = PoisonFrogs(learning_rate=1e4, memory=1, decay=0.2, beta=0, steps=25)
    _, final = attack.perturb(batch, surrogates[:1], seen.append)
    values = torch.stack(seen)
    assert (values.diff(dim=0) <= 1e-4 * values[0]).all()
    assert (final < 0.5 * values[0]).all()


def test_finished_poisons_end_the_search_early(digits, setups, surrogates) -> None:
    batch = batch_of(digits, setups)
    seen: list[torch.Tensor] = []
    PoisonFrogs(steps=60, tolerance=0.2, learning_rate=1e-3, beta=0).perturb(batch, surrogates[:1], seen.append)
    assert 1 <= len(seen) < 60


def test_the_watermark_is_clipped_to_the_budget_and_is_where_the_search_starts(digits, setups, surrogates) -> None:
    batch = batch_of(digits, setups)
    attack = PoisonFrogs("8/255", steps=1, watermark=0.3, learning_rate=1e-12, beta=0)
    poisons, _ = attack.perturb(batch, surrogates[:1], quiet)
    expected = batch.bases + (0.3 * (batch.targets - batch.bases)).clamp(-8 / 255, 8 / 255)
    torch.testing.assert_close(poisons, expected, rtol=0, atol=1e-5)


@BUDGETS
def test_same_seed_same_bytes_and_a_batch_equals_one_by_one(craft, setups, norm: str, eps: float) -> None:
    attack = PoisonFrogs(eps, norm, steps=5, beta=0.01)
    together = craft(attack)
    for one, two, setup in zip(together, craft(attack), setups, strict=True):
        assert torch.equal(one.images, two.images)
        (alone,) = craft(attack, [setup])
        assert (one.images.int() - alone.images.int()).abs().max() <= 1


def test_surrogates_are_left_as_they_were(craft, surrogates) -> None:
    before = {name: value.clone() for name, value in surrogates[0].state_dict().items()}
    craft(PoisonFrogs(steps=2))
    assert all(torch.equal(value, before[name]) for name, value in surrogates[0].state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in surrogates[0].parameters())


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0},
        {"beta": -1},
        {"beta": float("nan")},
        {"watermark": 1},
        {"decay": 1},
        {"memory": 0},
        {"tolerance": -1},
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong) -> None:
    with pytest.raises(InputError, match=rf"\(--attack\.{next(iter(wrong))}\)"):
        PoisonFrogs(**wrong)
