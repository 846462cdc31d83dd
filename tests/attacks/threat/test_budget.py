import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from poison_and_defend.attacks.threat.budget import Budget, parse_eps
from poison_and_defend.core.errors import InputError

SHAPE = (3, 2, 4, 4)
DIAMETER = math.sqrt(math.prod(SHAPE[1:]))
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**32 - 1)
linf_eps = st.floats(1 / 255, 1) | st.integers(1, 255).map(lambda levels: levels / 255)
l2_eps = st.floats(1 / 255, DIAMETER)
budgets = linf_eps.map(lambda eps: Budget("linf", eps)) | l2_eps.map(lambda eps: Budget("l2", eps))


def draw(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Wild float images, some in the ball and some far out, and bases with many values at the ends of the range."""
    rng = np.random.default_rng(seed)
    bases = rng.choice([0, 1, 254, 255, *range(0, 256, 5)], SHAPE).astype(np.uint8)
    spread = 10.0 ** rng.uniform(-3, 0.5)
    images = bases / 255 + spread * rng.standard_normal(SHAPE)
    return torch.from_numpy(images.astype(np.float32)), torch.from_numpy(bases)


def norms(delta: np.ndarray, norm: str) -> np.ndarray:
    flat = delta.reshape(len(delta), -1)
    return np.abs(flat).max(1) if norm == "linf" else np.sqrt((flat**2).sum(1))


@quick
@given(seeds, budgets)
@example(0, Budget("linf", 8 / 255))
@example(1, Budget("l2", DIAMETER))
def test_quantized_poisons_stay_in_the_budget(seed: int, budget: Budget) -> None:
    images, bases = draw(seed)
    poisons = budget.quantize(images.clamp(0, 1), bases)
    distance = norms((poisons.numpy().astype(np.float64) - bases.numpy()) / 255, budget.norm)
    assert poisons.dtype == torch.uint8
    assert (distance <= budget.eps + 1e-8).all()
    assert not budget.exceeded(poisons, bases).any()
    np.testing.assert_allclose(budget.distance(poisons, bases).numpy(), distance, rtol=1e-12)


@quick
@given(seeds, budgets)
def test_projection_is_idempotent_in_range_and_in_the_ball(seed: int, budget: Budget) -> None:
    images, bases = draw(seed)
    exact = bases.double() / 255
    once = budget.project(images.double(), exact)
    assert once.min() >= 0
    assert once.max() <= 1
    assert (norms((once - exact).numpy(), budget.norm) <= budget.eps * (1 + 1e-9)).all()
    torch.testing.assert_close(budget.project(once, exact), once, rtol=0, atol=1e-12)


@quick
@given(seeds, l2_eps)
def test_l2_projection_scales_the_difference_and_leaves_inner_points_alone(seed: int, eps: float) -> None:
    images, bases = draw(seed)
    exact = bases.double() / 255
    delta = (images.double() - exact).numpy()
    scale = np.minimum(1, eps / norms(delta, "l2")).reshape(-1, 1, 1, 1)
    expected = np.clip(exact.numpy() + delta * scale, 0, 1)
    np.testing.assert_allclose(Budget("l2", eps).project(images.double(), exact).numpy(), expected, atol=1e-12)


@quick
@given(seeds)
def test_images_of_whole_levels_within_linf_survive_rounding(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bases = rng.integers(0, 256, SHAPE)
    images = np.clip(bases + rng.integers(-8, 9, SHAPE), 0, 255)
    kept = Budget("linf", 8 / 255).quantize(torch.from_numpy(images).float() / 255, torch.from_numpy(bases.astype(np.uint8)))
    np.testing.assert_array_equal(kept.numpy(), images)


@pytest.mark.parametrize("eps", [8 / 255, parse_eps("8/255"), 8.99 / 255])
def test_eight_grey_levels_and_no_more(eps: float) -> None:
    bases = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    budget = Budget("linf", eps)
    brighter = budget.quantize(torch.ones(1, 1, 16, 16), bases)
    darker = budget.quantize(torch.zeros(1, 1, 16, 16), bases)
    np.testing.assert_array_equal(brighter.flatten().numpy(), np.minimum(np.arange(256) + 8, 255))
    np.testing.assert_array_equal(darker.flatten().numpy(), np.maximum(np.arange(256) - 8, 0))
    assert budget.exceeded(torch.full((1, 1, 1, 1), 9, dtype=torch.uint8), torch.zeros(1, 1, 1, 1, dtype=torch.uint8)).all()


def test_l2_rounding_never_moves_a_pixel_beyond_its_float() -> None:
    images, bases = draw(5)
    budget = Budget("l2", 1.0)
    exact = bases.float() / 255
    floats = (budget.project(images, exact) - exact).abs() * 255
    levels = (budget.quantize(images, bases).float() - bases.float()).abs()
    assert (levels <= floats + 1e-3).all()
    assert (levels >= floats - 1 - 1e-3).all()


def test_projection_passes_gradients_inside_the_ball_and_none_across_linf() -> None:
    bases = torch.full((1, 1, 1, 2), 0.5)
    images = torch.tensor([[[[0.51, 0.9]]]], requires_grad=True)
    Budget("linf", 0.1).project(images, bases).sum().backward()
    assert images.grad.flatten().tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("text", "value"), [("8/255", 8 / 255), ("0.03", 0.03), (0.25, 0.25), (1, 1.0), ("16/255", 16 / 255)])
def test_eps_is_a_number_or_a_fraction(text: float | str, value: float) -> None:
    assert parse_eps(text) == value


@pytest.mark.parametrize("text", ["8/0", "eight", "", "8//255", "nan", "inf"])
def test_unreadable_eps_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--attack\.eps") as caught:
        parse_eps(text)
    assert repr(text) in str(caught.value)


def test_eps_beyond_floats_is_refused() -> None:
    with pytest.raises(InputError, match=r"--attack\.eps"):
        parse_eps("1e400")


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("eps", [0.0, -0.1, math.nan, math.inf, -math.inf])
def test_eps_that_is_not_positive_and_finite_is_refused(norm: str, eps: float) -> None:
    with pytest.raises(InputError, match=rf"{eps:g}.*--attack\.eps"):
        Budget(norm, eps)


def test_linf_above_the_pixel_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"1\.5.*at most 1.*--attack\.eps"):
        Budget("linf", 1.5)
    assert Budget("linf", 1.0).eps == 1


def test_l2_above_the_diameter_is_refused_once_the_shape_is_known() -> None:
    Budget("l2", DIAMETER).check_shape(SHAPE[1:])
    Budget("linf", 1.0).check_shape((1, 1, 1))
    with pytest.raises(InputError, match=r"5\.7.*5\.65685.*--attack\.eps"):
        Budget("l2", 5.7).check_shape(SHAPE[1:])


def test_unknown_norm_is_refused() -> None:
    with pytest.raises(InputError, match=r"'l1'.*linf or l2.*--attack\.norm"):
        Budget("l1", 0.1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_less_than_a_grey_level_is_refused_and_one_is_accepted(norm: str) -> None:
    with pytest.raises(InputError, match=r"eps is 0\.0039: less than 1/255.*--attack\.eps"):
        Budget(norm, 0.0039)
    assert Budget(norm, 1 / 255).eps * 255 == pytest.approx(1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_distances_are_one_number_an_image_whatever_stands_before_channels(norm: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images, bases = (torch.randint(0, 256, (2, 4, 1, 3, 3), generator=generator).to(torch.uint8) for _ in range(2))
    found = Budget(norm, 0.5).distance(images, bases)
    expected = norms((images.numpy().astype(float) - bases.numpy()).reshape(8, -1) / 255, norm).reshape(2, 4)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    assert Budget(norm, 0.5).distance(images[0, 0], bases[0, 0]).shape == ()
