"""Ancestral steps: the textbook's recursion, what they leave of a Gaussian prior, and noise that is each row's own."""

import copy
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import Ancestral, Diffusion
from poison_and_defend.defenses.known import KnownDefense
from poison_and_defend.defenses.rewriters.base import quantize
from poison_and_defend.diffusion.denoiser import Denoiser
from poison_and_defend.diffusion.row_noise import row_noise
from poison_and_defend.sanitizing.tiled import Group, TiledDefense

ROWS = torch.tensor([5, 0, 99, 3, 7, 2])
ABAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000, dtype=np.float64))


def test_every_timestep_is_the_recursion_of_the_paper(images, denoiser) -> None:
    """Ho et al., Algorithm 2 with the variance of equation 7, in double precision, from the noise that rows are keyed by."""
    sigma = 0.02
    found = Ancestral(sigma, denoiser, seed=4, draw=1)(images, ROWS)
    start = int(np.argmax(np.sqrt((1 - ABAR) / ABAR) >= 2 * sigma))
    assert start > 3
    shape = tuple(images.shape[1:])
    state = math.sqrt(ABAR[start]) * (2 * (images / 255 + sigma * row_noise(ROWS, shape, seed=4, draw=1)) - 1).double()
    for number, time in enumerate(range(start, 0, -1), 1):
        noise = denoiser.unet(state.float(), time).sample.double()
        clean = ((state - math.sqrt(1 - ABAR[time]) * noise) / math.sqrt(ABAR[time])).clamp(-1, 1)
        if time == 1:
            break
        # The mean of the posterior by its two coefficients, and its variance.
        before, alpha = ABAR[time - 1], ABAR[time] / ABAR[time - 1]
        mean = math.sqrt(before) * (1 - alpha) / (1 - ABAR[time]) * clean
        mean = mean + math.sqrt(alpha) * (1 - before) / (1 - ABAR[time]) * state
        variance = (1 - before) / (1 - ABAR[time]) * (1 - alpha)
        state = mean + math.sqrt(variance) * row_noise(ROWS, shape, seed=4, draw=1, step=number).double()
    expected = quantize((clean.float() + 1) / 2)
    assert (found.int() - expected.int()).abs().max() <= 1 and not torch.equal(found, images)


def _gaussian_prior(denoiser: Denoiser, spread: float) -> Denoiser:
    """The same with the exact network for pixels that are N(0, spread^2) in the model's units."""

    def network(state: Tensor, time: float) -> Tensor:
        abar = ABAR[int(time)]
        return state * math.sqrt(1 - abar) / (abar * spread**2 + 1 - abar)

    denoiser._network = network  # type: ignore[method-assign]
    return denoiser


def _left(spread: float, sigma: float, steps: int) -> float:
    """Standard deviation after the steps, which are linear in state and noise: one number carried through the posterior."""
    start = int(np.argmax(np.sqrt((1 - ABAR) / ABAR) >= 2 * sigma))
    times = list(dict.fromkeys(np.linspace(start, 0, steps + 1).round().astype(int)[:-1].tolist()))
    variance = ABAR[start] * (spread**2 + 4 * sigma**2)
    for time, later in pairwise(times):
        alpha, before = ABAR[time] / ABAR[later], ABAR[later]
        share = math.sqrt(ABAR[time]) * spread**2 / (ABAR[time] * spread**2 + 1 - ABAR[time])
        factor = math.sqrt(before) * (1 - alpha) / (1 - ABAR[time]) * share + math.sqrt(alpha) * (1 - before) / (1 - ABAR[time])
        variance = factor**2 * variance + (1 - before) / (1 - ABAR[time]) * (1 - alpha)
    last = ABAR[times[-1]]
    return math.sqrt(variance) * math.sqrt(last) * spread**2 / (last * spread**2 + 1 - last)


def test_of_a_gaussian_prior_ancestral_steps_give_samples_and_one_shot_gives_means(denoiser) -> None:
    spread, sigma, generator = 0.2, 0.25, torch.Generator().manual_seed(0)
    exact = _gaussian_prior(copy.deepcopy(denoiser), spread)
    exact.steps = 100
    clean = spread * torch.randn(40, denoiser.channels, 64, 64, generator=generator)
    noisy = (clean + 1) / 2 + sigma * torch.randn(clean.shape, generator=generator)
    drawn = 2 * exact(noisy, sigma, lambda step: torch.randn(clean.shape, generator=generator)) - 1
    walked = 2 * exact(noisy, sigma) - 1
    exact.steps = 1
    mean = 2 * exact(noisy, sigma) - 1
    # The posterior of a pixel is N(a y, a (2 sigma)^2) with this a, up to the schedule's first time that covers sigma.
    share = spread**2 / (spread**2 + 4 * sigma**2)
    assert mean.std().item() == pytest.approx(math.sqrt(share) * spread, rel=0.02)
    assert drawn.std().item() == pytest.approx(_left(spread, sigma, 100), rel=0.01) == pytest.approx(spread, rel=0.05)
    # The ODE's way carries the noisy law to the prior's, without any noise of its own.
    assert walked.std().item() == pytest.approx(spread, rel=0.03)
    assert torch.corrcoef(torch.stack([walked.flatten(), mean.flatten()]))[0, 1] > 0.999
    # A sample is independent of the image given what was seen: correlated with the clean image as the posterior says.
    seen = torch.corrcoef(torch.stack([drawn.flatten(), clean.flatten()]))[0, 1].item()
    assert seen == pytest.approx(share, abs=0.02)


def test_a_rows_bytes_are_its_own_and_another_draw_is_another(images, denoiser) -> None:
    rewriter = Ancestral(0.1, denoiser, evaluations=4, seed=4)
    found = rewriter(images, ROWS)
    assert (rewriter(images[2:4], ROWS[2:4]).int() - found[2:4].int()).abs().max() <= 1
    assert torch.equal(rewriter(images, ROWS, torch.zeros_like(ROWS)), found)
    assert not torch.equal(rewriter(images, ROWS, torch.ones_like(ROWS)), found)
    assert not torch.equal(rewriter.with_seed(5)(images, ROWS), found)
    assert not torch.equal(Diffusion(0.1, denoiser, seed=4)(images, ROWS), found)
    assert rewriter.denoiser.steps == 4 and denoiser.steps == 1


def test_an_attacker_who_knows_the_seed_sees_what_victims_get(images, denoiser) -> None:
    rewriter = Ancestral(0.1, denoiser, evaluations=4, seed=4)
    known = KnownDefense(rewriter, knows_seed=True)
    drawn = known.draw(ROWS[None], tuple(images.shape[1:]), [torch.Generator()])
    found = drawn.of(images[None].float() / 255)[0]
    assert (quantize(found).int() - rewriter(images, ROWS).int()).abs().max() <= 1
    shape = tuple(images.shape[1:])
    assert rewriter.noise_shape(shape) == (4 * shape[0], *shape[1:])


def test_a_gradient_goes_through_every_step(images, denoiser) -> None:
    rewriter, start = (
        Ancestral(0.1, copy.deepcopy(denoiser).double(), evaluations=3, seed=4),
        images[:1].double() / 255 * 0.5 + 0.25,
    )
    noise = rewriter.own_noise(ROWS[:1], tuple(images.shape[1:])).double()
    generator = torch.Generator().manual_seed(0)
    side = torch.randn(start.shape, generator=generator, dtype=torch.double)
    way = torch.randn(start.shape, generator=generator, dtype=torch.double)

    def value(moved: Tensor) -> Tensor:
        return (rewriter.relaxed(moved, noise) * side).sum()

    given = start.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(value(given), given)
    with torch.no_grad():
        numeric = (value(start + 1e-6 * way) - value(start - 1e-6 * way)) / 2e-6
    assert (gradient * way).sum().item() == pytest.approx(numeric.item(), rel=1e-4)


def test_a_store_is_made_of_the_same_bytes(images, denoiser) -> None:
    rewriter = Ancestral(0.1, denoiser, evaluations=3, seed=4)
    (stored,) = TiledDefense(rewriter, batch_size=6)([Group(images, ROWS)])
    assert torch.equal(stored.images, rewriter(images, ROWS))
    assert rewriter.settings()["sampler"] == "ancestral" and rewriter.settings()["denoise_steps"] == 3


def test_bad_input_is_refused(images, denoiser) -> None:
    with pytest.raises(InputError, match=r"evaluations is 1: .*at least 2"):
        Ancestral(0.1, denoiser, evaluations=1)
    with pytest.raises(InputError, match="the denoiser takes images of shape"):
        Ancestral(0.1, denoiser, evaluations=3).check((denoiser.channels, 40, 40), 10)
