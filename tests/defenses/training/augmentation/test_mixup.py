import numpy as np
import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import Mixup, Step


def step(members: int = 3, count: int = 8, number: int = 4, seeds: tuple[int, ...] | None = None) -> Step:
    # Every pixel of an image is its own number, so that a mixture tells of what it is made.
    inputs = torch.arange(count).float().view(1, count, 1, 1, 1).expand(members, -1, 1, 4, 4) / count
    labels = (torch.arange(count) % 5).expand(members, -1)
    rows = torch.arange(count).expand(members, -1)
    return Step(inputs, labels, rows, seeds or tuple(range(members)), number, 5, lambda x: x)


def replay(seed: int, number: int, count: int, alpha: float) -> tuple[float, torch.Tensor]:
    drawn = torch.Generator().manual_seed((seed * 1_000_003 + number + 2**31) % 2**63)
    partners = torch.randperm(count, generator=drawn)
    return np.random.default_rng(int(torch.randint(2**62, (), generator=drawn))).beta(alpha, alpha), partners


def test_equation_2_for_every_member() -> None:
    before, defense = step(), Mixup(0.7)
    after = defense.inputs(before)
    onehot = torch.nn.functional.one_hot(before.labels[0], 5).float()
    for member in range(3):
        weight, partners = replay(member, 4, 8, 0.7)
        own = before.inputs[member]
        torch.testing.assert_close(after.inputs[member], weight * own + (1 - weight) * own[partners])
        torch.testing.assert_close(after.targets[member], weight * onehot + (1 - weight) * onehot[partners])


def test_a_member_depends_on_its_own_seed_and_step_alone() -> None:
    together, alone = Mixup().inputs(step()), Mixup().inputs(step(1, seeds=(2,)))
    assert torch.equal(together.inputs[2], alone.inputs[0]) and torch.equal(together.targets[2], alone.targets[0])
    assert not torch.equal(together.inputs[0], together.inputs[1])
    assert not torch.equal(Mixup().inputs(step(number=5)).inputs, together.inputs)


def test_pairs_are_drawn_and_are_no_neighbours() -> None:
    """A loader's order is no random pairing: torchvision's rolls the batch by one."""
    partners = [replay(seed, 0, 64, 1.0)[1] for seed in range(20)]
    rolled = torch.arange(64).roll(1)
    assert all((pair == rolled).float().mean() < 0.2 for pair in partners)
    assert len({tuple(pair.tolist()) for pair in partners}) == 20


def test_the_weight_has_the_beta_distribution() -> None:
    for alpha in (0.2, 1.0, 4.0):
        weights = np.array([replay(seed, 0, 2, alpha)[0] for seed in range(3000)])
        assert weights.mean() == pytest.approx(0.5, abs=0.03)
        assert weights.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_the_loss_is_that_of_both_labels() -> None:
    after = Mixup().inputs(step(1))
    logits = torch.randn(1, 8, 5, generator=torch.Generator().manual_seed(0))
    weight, partners = replay(0, 4, 8, 1.0)
    labels = torch.arange(8) % 5
    entropy = torch.nn.functional.cross_entropy
    expected = weight * entropy(logits[0], labels, reduction="none")
    expected += (1 - weight) * entropy(logits[0], labels[partners], reduction="none")
    torch.testing.assert_close(Mixup().losses(logits, after)[0], expected)


@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), float("inf")])
def test_alpha_out_of_range_is_refused(alpha: float) -> None:
    with pytest.raises(InputError, match=rf"alpha is {alpha:g}.*--arms.mixup.alpha"):
        Mixup(alpha)
