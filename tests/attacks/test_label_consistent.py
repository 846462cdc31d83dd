import numpy as np
import pytest
import torch
from torch.nn import functional

from poison_and_defend.attacks import LabelConsistent
from poison_and_defend.attacks.label_consistent import true_label_loss
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.trigger import CornerTrigger, PatchTrigger
from poison_and_defend.core.errors import InputError
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.build import build_network
from tests.attacks import by_hand

BUDGETS = pytest.mark.parametrize(("norm", "eps"), [("linf", "32/255"), ("l2", 2.0)])
PATCH = PatchTrigger(5, "bottom_right")


@pytest.fixture(scope="module")
def models(digits) -> list[Classifier]:
    """Two networks that read digits: three passes of plain gradient descent over the training set."""
    split, trained = digits.split("train"), []
    images = split.images.float() / 255
    for seed in (1, 2):
        model = build_network("patchnet", in_channels=1, num_classes=10, seed=seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
        for rows in torch.arange(598).repeat(4).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[rows]), split.labels[rows]).backward()
            optimizer.step()
        trained.append(model.eval().requires_grad_(False))
    return trained


def probability(images: torch.Tensor, labels: torch.Tensor, models) -> torch.Tensor:
    """Of the true label under the mean logits, in double precision."""
    logits = np.mean([model(images.float() / 255).double().numpy() for model in models], axis=0)
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return torch.from_numpy(odds / odds.sum(1, keepdims=True))[torch.arange(len(images)), labels]


def labels_of(poisons: PoisonSet) -> torch.Tensor:
    return torch.full((len(poisons.images),), poisons.setup.adversarial_label)


@BUDGETS
def test_poisons_become_hard_within_the_budget_outside_the_trigger(craft, models, norm: str, eps: float | str) -> None:
    for poisons in craft(LabelConsistent(eps, norm, steps=20, trigger=PATCH), models=models):
        start = probability(poisons.bases, labels_of(poisons), models).mean()
        assert poisons.objective < 0.5 * start
        delta = poisons.images.numpy().astype(float) - poisons.bases.numpy()
        assert (poisons.images[..., 27:, 27:] == PATCH.build((1, 32, 32)).pattern).all()
        delta[..., 27:, 27:] = 0
        flat = delta.reshape(len(delta), -1) / 255
        assert (
            0.3
            < np.linalg.norm(flat, np.inf if norm == "linf" else 2, axis=1).max() / (32 / 255 if norm == "linf" else 2)
            < 1.0001
        )
        assert (poisons.goal, poisons.visible_trigger) == ("others", True)


@BUDGETS
def test_an_invisible_trigger_is_part_of_the_budget(craft, models, norm: str, eps: float | str) -> None:
    for poisons in craft(LabelConsistent(eps, norm, steps=5, trigger=PATCH, visible=False), models=models):
        delta = (poisons.images.numpy().astype(float) - poisons.bases.numpy()).reshape(len(poisons.images), -1) / 255
        assert (
            np.linalg.norm(delta, np.inf if norm == "linf" else 2, axis=1).max() <= (32 / 255 if norm == "linf" else 2) + 1e-8
        )
        corner, wanted = poisons.images[..., 27:, 27:].int(), PATCH.build((1, 32, 32)).pattern.int()
        before = poisons.bases[..., 27:, 27:].int()
        assert ((corner - wanted).abs() <= (before - wanted).abs()).all() and not torch.equal(corner, before)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.2), ("linf", 0.02), ("l2", 0.5), ("l2", 0.05)])
@pytest.mark.parametrize("steps", [1, 4])
def test_steps_climb_the_loss_of_the_true_label_projected_each_time(steps: int, norm: str, eps: float) -> None:
    batch, surrogates = by_hand.small_batch(), by_hand.models()
    found, _ = LabelConsistent(eps, norm, steps=steps, step_size=0.03).perturb(batch, surrogates, lambda value: None)
    bases = batch.bases.numpy()
    for setup in range(by_hand.SETUPS):
        label, expected = batch.base_labels[setup, 0].item(), bases[setup]
        for _ in range(steps):
            heads = [surrogate.head.detach().numpy() for surrogate in surrogates]
            logits = np.mean([s.by_hand(expected)[1] @ head.T for s, head in zip(surrogates, heads, strict=True)], axis=0)
            odds = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            of_logits = (odds - np.eye(4)[label]) / len(surrogates)
            slope = sum(s.slope(expected, of_logits @ head) for s, head in zip(surrogates, heads, strict=True))
            length = np.sqrt((slope**2).sum((1, 2, 3), keepdims=True))
            direction = np.sign(slope) if norm == "linf" else slope / length
            expected = by_hand.projected(expected + 0.03 * direction, bases[setup], norm, eps)
        np.testing.assert_allclose(found[setup].numpy(), expected, rtol=0, atol=1e-9)
    assert by_hand.shown_within(surrogates, bases, norm, eps) == 2 * (steps + 1)


@BUDGETS
def test_the_first_step_is_an_independent_computation(craft, models, norm: str, eps: float | str) -> None:
    (poisons, *_) = craft(LabelConsistent(eps, norm, steps=1, step_size=0.06, trigger=PATCH), models=models)
    images = (poisons.bases.float() / 255).requires_grad_()
    logits = (models[0](images) + models[1](images)) / 2
    functional.cross_entropy(logits, labels_of(poisons), reduction="sum").backward()
    gradient = images.grad
    step = gradient.sign() if norm == "linf" else gradient / gradient.square().sum((1, 2, 3), keepdim=True).sqrt()
    expected = ((images.detach() + 0.06 * step).clamp(0, 1) * 255).numpy()
    off = np.abs(expected - poisons.images.numpy())
    off[..., 27:, 27:] = 0
    # linf rounds to the nearest level, l2 towards the base.
    assert off.max() <= (0.51 if norm == "linf" else 1.01)


@BUDGETS
def test_same_seed_same_bytes_and_a_batch_equals_one_by_one(craft, models, setups, norm: str, eps: float | str) -> None:
    together = craft(LabelConsistent(eps, norm, steps=3), models=models)
    for one, two, setup in zip(together, craft(LabelConsistent(eps, norm, steps=3), models=models), setups, strict=True):
        (alone,) = craft(LabelConsistent(eps, norm, steps=3), [setup], models=models)
        assert torch.equal(one.images, two.images)
        # The sign of a gradient that vanishes depends on the last bit: at most a few pixels.
        assert ((one.images.int() - alone.images.int()).abs() > 1).float().mean() < 0.002


@BUDGETS
def test_only_own_rows_change_and_surrogates_do_not(craft, models, digits, setups, norm: str, eps: float | str) -> None:
    before = [{name: value.clone() for name, value in model.state_dict().items()} for model in models]
    train, test = digits.split("train"), digits.split("test")
    fresh = type(digits)().split("train").images
    for poisons, setup in zip(craft(LabelConsistent(eps, norm, steps=2), models=models), setups, strict=True):
        assert poisons.setup is setup and torch.equal(poisons.bases, fresh[setup.base_indices])
        poisons.check_against(train.images, train.labels, test.labels)
    assert torch.equal(train.images, fresh)
    for model, old in zip(models, before, strict=True):
        assert all(torch.equal(value, old[name]) for name, value in model.state_dict().items())


def test_the_objective_is_the_mean_probability_of_the_true_label(craft, models) -> None:
    seen: list[list[float]] = []
    attack = LabelConsistent("255/255", steps=4, step_size="1.5/255")
    crafted = craft(attack, models=models, progress=lambda objective: seen.append(objective.tolist()))
    starts = [probability(p.bases, labels_of(p), models).mean().item() for p in crafted]
    assert len(seen) == 4 and seen[0] == pytest.approx(starts, rel=1e-4)
    assert all(p.objective < last for p, last in zip(crafted, seen[-1], strict=True))


def test_several_models_are_one_of_mean_logits(models) -> None:
    images, labels = (
        torch.rand(2, 3, 1, 32, 32, generator=torch.Generator().manual_seed(0)),
        torch.tensor([[1, 2, 3], [4, 5, 6]]),
    )
    found = true_label_loss(images, labels, models)
    logits = (models[0](images.flatten(0, 1)) + models[1](images.flatten(0, 1))) / 2
    expected = -logits.log_softmax(1)[torch.arange(6), labels.flatten()].view(2, 3)
    torch.testing.assert_close(found, expected)


def test_arguments_are_checked_and_recorded() -> None:
    attack = LabelConsistent("8/255", step_size="1.5/255", trigger=CornerTrigger(amplitude="32/255"))
    assert attack.arguments()["step_size"] == 1.5 / 255 and attack.arguments()["visible_trigger"] is True
    assert LabelConsistent(0.1, steps=50).step_size == pytest.approx(2.5 * 0.1 / 50)
    for bad in (0, -0.1, "nan", "much"):
        with pytest.raises(InputError, match=r"--attack\.step_size"):
            LabelConsistent(step_size=bad)
    with pytest.raises(InputError, match=r"--attack\.trigger\.placement"):
        LabelConsistent(trigger=PatchTrigger(5, "random"))


def test_a_random_start_is_seeded_and_in_the_budget(craft, setups) -> None:
    attack = LabelConsistent("16/255", steps=1, step_size="0.001/255", random_start=True)
    one, two = craft(attack), craft(attack)
    still = craft(LabelConsistent("16/255", steps=1, step_size="0.001/255"))
    for a, b, c in zip(one, two, still, strict=True):
        assert torch.equal(a.images, b.images)
        inside = ~a.trigger.mask(32, 32)
        moved = (a.images.int() - a.bases.int())[..., inside].abs()
        # Half of the ball's radius on average where the base leaves room, nothing without a random start.
        assert moved.max() <= 16 and moved.float().mean() > 2
        assert (c.images.int() - c.bases.int())[..., inside].abs().max() <= 1
