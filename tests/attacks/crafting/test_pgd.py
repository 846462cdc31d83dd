import itertools
import math

import pytest
import torch
from torch import Tensor

from poison_and_defend.attacks.crafting.pgd import default_step_size, pgd, uniform_in_ball
from poison_and_defend.attacks.threat.budget import Budget

BUDGETS = pytest.mark.parametrize("budget", [Budget("linf", 0.1), Budget("l2", 1.5)], ids=["linf", "l2"])
SHAPE = (2, 3, 1, 6, 5)


def bases(seed: int = 0) -> Tensor:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed)) * 0.4 + 0.3


def linear(weight: Tensor):
    return lambda images: (images * weight).flatten(-3).sum(-1)


WEIGHT = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


@BUDGETS
def test_a_step_is_the_steepest_of_its_length(budget: Budget) -> None:
    delta = pgd(linear(WEIGHT), bases(), bases(), budget, steps=1, step_size=0.01) - bases()
    if budget.norm == "linf":
        expected = 0.01 * WEIGHT.sign()
    else:
        expected = 0.01 * WEIGHT / WEIGHT.square().sum((-1, -2, -3), keepdim=True).sqrt()
    torch.testing.assert_close(delta, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("budget", [Budget("linf", 0.1), Budget("l2", 0.4)], ids=["linf", "l2"])
def test_enough_steps_reach_the_best_point_of_the_ball(budget: Budget) -> None:
    far = pgd(linear(WEIGHT), bases(), bases(), budget, steps=20, step_size=default_step_size(budget.eps, 20)) - bases()
    # Otherwise [0, 1] cuts into the ball.
    assert far.abs().max() < 0.3
    unit = WEIGHT / WEIGHT.square().sum((-1, -2, -3), keepdim=True).sqrt()
    best = 0.1 * WEIGHT.sign() if budget.norm == "linf" else 0.4 * unit
    torch.testing.assert_close(far, best, rtol=1e-3, atol=1e-5)


@BUDGETS
def test_a_batch_equals_one_by_one_and_the_scale_of_a_loss_does_not_matter(budget: Budget) -> None:
    def curved(scale: float, weight: Tensor):
        return lambda images: scale * (images.sub(0.5) * weight).square().flatten(-3).sum(-1)

    together = pgd(curved(1, WEIGHT), bases(), bases(), budget, steps=7, step_size=0.05)
    scaled = pgd(curved(1e4, WEIGHT), bases(), bases(), budget, steps=7, step_size=0.05)
    torch.testing.assert_close(together, scaled, rtol=0, atol=1e-5)
    for row in range(2):
        alone = pgd(curved(1, WEIGHT[row]), bases()[row], bases()[row], budget, steps=7, step_size=0.05)
        torch.testing.assert_close(together[row], alone, rtol=0, atol=1e-6)


@BUDGETS
def test_everything_stays_in_the_budget_and_in_the_pixel_range(budget: Budget) -> None:
    extreme = bases().round()
    start = uniform_in_ball(extreme, budget, torch.Generator().manual_seed(4))
    for images in (start, pgd(linear(WEIGHT), start, extreme, budget, steps=9, step_size=0.4)):
        delta = (images - extreme).flatten(-3)
        length = delta.abs().amax(-1) if budget.norm == "linf" else delta.norm(dim=-1)
        assert length.max() <= budget.eps + 1e-6 and images.min() >= 0 and images.max() <= 1


@BUDGETS
def test_losses_are_reported_before_each_step_and_rise(budget: Budget) -> None:
    seen: list[Tensor] = []
    pgd(linear(WEIGHT), bases(), bases(), budget, steps=4, step_size=0.01, progress=seen.append)
    torch.testing.assert_close(seen[0], linear(WEIGHT)(bases()))
    assert len(seen) == 4 and all((later > earlier).all() for earlier, later in itertools.pairwise(seen))


@BUDGETS
def test_a_flat_loss_moves_nothing_and_parameters_collect_no_gradient(budget: Budget) -> None:
    scale = torch.nn.Parameter(torch.zeros(()))
    still = pgd(lambda x: (x * scale).flatten(-3).sum(-1), bases(), bases(), budget, steps=3, step_size=0.1)
    torch.testing.assert_close(still, bases(), rtol=0, atol=1e-7)
    assert scale.grad is None and not still.requires_grad


def test_random_starts_fill_the_ball() -> None:
    middle = torch.full((4000, 1, 2, 2), 0.5)
    box = uniform_in_ball(middle, Budget("linf", 0.2), torch.Generator().manual_seed(0)) - 0.5
    assert abs(box.mean().item()) < 0.003 and box.std().item() == pytest.approx(0.2 / math.sqrt(3), rel=0.02)
    ball = uniform_in_ball(middle, Budget("l2", 0.4), torch.Generator().manual_seed(0)) - 0.5
    radius = ball.flatten(1).norm(dim=1)
    # In d dimensions a uniform point's radius has mean d / (d + 1): 4 / 5 here.
    assert radius.max() <= 0.4 + 1e-6 and radius.mean().item() == pytest.approx(0.4 * 4 / 5, rel=0.02)
    assert ball.mean(0).abs().max() < 0.01


def test_a_random_start_follows_its_generator() -> None:
    one, two, other = (uniform_in_ball(bases(), Budget("l2", 1.0), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)


@pytest.mark.parametrize("shape", [(4, 1, 1), (2, 1, 2), (1, 2, 2)])
def test_every_pixel_of_every_channel_is_a_dimension_of_the_ball(shape: tuple[int, int, int]) -> None:
    middle = torch.full((20_000, *shape), 0.5)
    ball = uniform_in_ball(middle, Budget("l2", 0.4), torch.Generator().manual_seed(0)) - 0.5
    assert ball.flatten(1).norm(dim=1).mean().item() == pytest.approx(0.4 * 4 / 5, rel=0.02)
