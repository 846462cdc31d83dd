"""Rewriters as an attacker looks through them: before rounding, and with a gradient."""

import copy

import pytest
import torch
from torch import Tensor

from poison_and_defend.defenses import DenoiseOnly, Diffusion, Jpeg, NoiseOnly, Rewriter
from poison_and_defend.defenses.rewriters.base import quantize
from poison_and_defend.defenses.rewriters.in_order import in_order
from poison_and_defend.diffusion.denoiser import Denoiser
from poison_and_defend.diffusion.row_noise import row_noise

ROWS = torch.tensor([5, 0, 99, 3, 7, 2])


def noise_of(rewriter: Rewriter, images: Tensor) -> Tensor:
    """The numbers that the rewriter itself draws for these rows, seed 4."""
    return row_noise(ROWS, rewriter.noise_shape(tuple(images.shape[1:])), seed=4, draw=0)


def every(denoiser: Denoiser, several: Denoiser) -> dict[str, Rewriter]:
    known = {"sigma": 0.2, "seed": 4}
    return {
        "noise_only": NoiseOnly(**known),
        "denoise_only": DenoiseOnly(denoiser=denoiser),
        "diffusion": Diffusion(denoiser=denoiser, **known),
        "several steps": Diffusion(denoiser=several, **known),
        "jpeg": Jpeg(40),
    }


@pytest.fixture
def several(denoiser, make_scheduler) -> Denoiser:
    """The same network, evaluated three times."""
    return Denoiser(copy.deepcopy(denoiser.unet), make_scheduler(), steps=3)


@pytest.mark.parametrize("name", ["noise_only", "denoise_only", "diffusion", "several steps", "jpeg"])
def test_rounded_it_is_what_victims_get(name, images, denoiser, several) -> None:
    rewriter = every(denoiser, several)[name]
    found = rewriter.relaxed(images.float() / 255, noise_of(rewriter, images))
    assert found.min() >= 0 and found.max() <= 1
    assert (quantize(found).int() - rewriter(images, ROWS).int()).abs().max() <= 1
    assert not torch.equal(quantize(found), images)


@pytest.mark.parametrize(("large", "side"), [("tiles", 20), ("resize", 12), ("tiles", 5)])
def test_images_of_other_sizes_go_the_way_that_they_do_for_victims(large, side, denoiser) -> None:
    images = torch.randint(0, 256, (6, denoiser.channels, side, side), generator=torch.Generator().manual_seed(1))
    images = images.to(torch.uint8)
    rewriter = Diffusion(sigma=0.1, denoiser=denoiser, seed=4, large=large)
    found = quantize(rewriter.relaxed(images.float() / 255, noise_of(rewriter, images))).int()
    # Scaled images are rounded on the way for victims, which denoising may carry a little further.
    assert (found - rewriter(images, ROWS).int()).abs().max() <= (1 if large == "tiles" else 4)


@pytest.mark.parametrize("name", ["noise_only", "denoise_only", "diffusion", "several steps"])
def test_the_gradient_is_that_of_finite_differences(name, images, denoiser, several) -> None:
    rewriter = every(copy.deepcopy(denoiser).double(), several.double())[name]
    start = (images.double() / 255 * 0.6 + 0.2)[:2]
    noise = noise_of(rewriter, images)[:2].double() / 4
    direction = torch.randn(start.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    weights = torch.randn(start.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def value(moved: Tensor) -> Tensor:
        return (rewriter.relaxed(moved, noise) * weights).sum()

    start.requires_grad_()
    (gradient,) = torch.autograd.grad(value(start), [start])
    with torch.no_grad():
        slope = (value(start + 1e-6 * direction) - value(start - 1e-6 * direction)) / 2e-6
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-4)
    assert gradient.abs().max() > 0


def test_what_has_no_gradient_passes_it_on(images) -> None:
    start = (images.float() / 255).requires_grad_()
    weights = torch.randn(start.shape, generator=torch.Generator().manual_seed(3))
    found = Jpeg(40).relaxed(start, torch.zeros(len(start), 0))
    (gradient,) = torch.autograd.grad((found * weights).sum(), [start])
    assert torch.equal(gradient, weights)


def test_several_in_order_share_the_numbers_out(images, denoiser) -> None:
    parts = [NoiseOnly(sigma=0.1, seed=1), Jpeg(60), Diffusion(sigma=0.2, denoiser=denoiser, seed=2)]
    chain = in_order(parts)
    shape = tuple(images.shape[1:])
    count = images[0].numel()
    assert chain.noise_shape(shape) == (2 * count,)
    noise = torch.randn(6, 2 * count, generator=torch.Generator().manual_seed(0))
    step = parts[0].relaxed(images.float() / 255, noise[:, :count].view(6, *shape))
    step = parts[1].relaxed(step, torch.zeros(6, 0))
    expected = parts[2].relaxed(step, noise[:, count:].view(6, *shape))
    torch.testing.assert_close(chain.relaxed(images.float() / 255, noise), expected)


def test_a_gradient_through_several_steps_may_be_differentiated_again(images, denoiser, several) -> None:
    """Gradient matching needs it; checkpoints must not break it."""
    start = (images[:1].double() / 255).requires_grad_()
    for model in (copy.deepcopy(denoiser).double(), several.double()):
        scale = torch.ones((), dtype=torch.float64, requires_grad=True)
        seen = Diffusion(sigma=0.2, denoiser=model, seed=1).relaxed(start, torch.zeros_like(start))
        (slope,) = torch.autograd.grad((scale * seen.square()).sum(), [scale], create_graph=True)
        (gradient,) = torch.autograd.grad(slope, [start])
        assert gradient.isfinite().all() and gradient.abs().max() > 0
