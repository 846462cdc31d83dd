"""Each family against a Gaussian prior, whose best network, posterior mean and path of the ODE are known in closed form."""

from math import log, sqrt
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from diffusers.configuration_utils import FrozenDict
from torch import Tensor, nn

from poison_and_defend.diffusion.denoiser import Denoiser

MU, S = 0.45, 0.05  # of pixels in [0, 1]; five deviations stay inside
SIGMAS = [0.02, 0.1, 0.25, 1.0, 2.5]


def posterior(y: Tensor, variance: float, mu: float = MU, s: float = S) -> Tensor:
    """E[x | x + n = y] for x ~ N(mu, s^2) and n ~ N(0, variance)."""
    return mu + s**2 / (s**2 + variance) * (y - mu)


class Optimal(nn.Module):
    """What training would end with for a Gaussian prior, from the papers' definitions and for that prior alone.

    Written with signal a, noise b and moments of (x, n) given a x + b n, not with any formula for the estimate.
    """

    def __init__(self, family: str, scheduler: Any, mu: float, s: float) -> None:
        super().__init__()
        self.config = FrozenDict(in_channels=1, out_channels=1, sample_size=4)
        self.dtype = torch.float64
        self.family, self.scheduler, self.mu, self.s = family, scheduler, mu, s

    def forward(self, seen: Tensor, time: Any) -> SimpleNamespace:
        config, mu, s = self.scheduler.config, self.mu, self.s

        def given(a: float, b: float, state: Tensor) -> tuple[Tensor, Tensor]:
            gain = (state - a * mu) / (a**2 * s**2 + b**2)
            return mu + a * s**2 * gain, b * gain

        if self.family == "preserving":
            assert isinstance(time, int)
            abar = float(self.scheduler.alphas_cumprod[time].double())
            a, b = sqrt(abar), sqrt(1 - abar)
            x, n = given(a, b, seen)
            return SimpleNamespace(sample={"epsilon": n, "sample": x, "v_prediction": a * n - b * x}[config.prediction_type])
        time = float(time)
        if self.family == "exploding":
            return SimpleNamespace(sample=-(seen - mu) / (s**2 + time**2))
        if self.family == "flow":
            x, n = given(1 - time / config.num_train_timesteps, time / config.num_train_timesteps, seen)
            return SimpleNamespace(sample=n - x)
        sd, sigma = config.sigma_data, float(torch.tensor(4 * time, dtype=torch.float64).exp())
        state = seen * sqrt(sigma**2 + sd**2)
        goal = (given(1, sigma, state)[0] - sd**2 / (sigma**2 + sd**2) * state) * sqrt(sigma**2 + sd**2) / (sigma * sd)
        return SimpleNamespace(sample=-goal if config.prediction_type == "v_prediction" else goal)


def build(family: str, name: str, steps: int = 1, **options: Any) -> Denoiser:
    scheduler = getattr(diffusers, name)(**options)
    # Images of variance exploding models are in [0, 1], all others' in [-1, 1].
    scale = (MU, S) if family == "exploding" else (2 * MU - 1, 2 * S)
    return Denoiser(Optimal(family, scheduler, *scale), scheduler, steps=steps)


FAMILIES = [
    *(("preserving", "DDPMScheduler", {"prediction_type": kind}) for kind in ("epsilon", "sample", "v_prediction")),
    ("preserving", "DDIMScheduler", {"beta_schedule": "squaredcos_cap_v2", "rescale_betas_zero_snr": True}),
    ("preserving", "PNDMScheduler", {"trained_betas": [0.001 * 1.02**step for step in range(250)]}),
    ("preserving", "EulerDiscreteScheduler", {"beta_schedule": "scaled_linear", "use_karras_sigmas": True}),
    ("preserving", "KDPM2DiscreteScheduler", {}),  # whose betas are others where none are given
    ("exploding", "ScoreSdeVeScheduler", {}),
    *(("preconditioned", "EDMEulerScheduler", {"prediction_type": kind}) for kind in ("epsilon", "v_prediction")),
    ("preconditioned", "EDMDPMSolverMultistepScheduler", {"sigma_data": 0.2}),
    ("flow", "FlowMatchEulerDiscreteScheduler", {}),
    ("flow", "FlowMatchEulerDiscreteScheduler", {"shift": 3.0, "num_train_timesteps": 500}),
    ("flow", "FlowMatchHeunDiscreteScheduler", {}),
    ("flow", "UniPCMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 2.0}),
]
every_family = pytest.mark.parametrize(("family", "name", "options"), FAMILIES)


def noisy_images(sigma: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    clean = MU + S * torch.randn(3, 1, 4, 4, generator=generator, dtype=torch.float64)
    return clean + sigma * torch.randn(clean.shape, generator=generator, dtype=torch.float64)


def told(denoiser: Denoiser, sigma: float) -> float:
    """sigma, or where there are timesteps the noise of the one that is taken."""
    family, time = denoiser.parametrization, denoiser.timestep(sigma)
    # Not rounded up into the timestep after it.
    return family.noise(time) / family.signal(time) / (family.span[1] - family.span[0]) * (1 - 1e-9)


@every_family
@pytest.mark.parametrize("sigma", SIGMAS)
def test_one_step_is_the_posterior_mean(family: str, name: str, options: dict[str, Any], sigma: float) -> None:
    denoiser = build(family, name, **options)
    if family == "preserving":
        assert sigma <= told(denoiser, sigma) < sigma + 0.1
        sigma = told(denoiser, sigma)
    else:
        assert told(denoiser, sigma) == pytest.approx(sigma, rel=1e-6)
    y = noisy_images(sigma)
    expected = posterior(y, sigma**2)
    assert (expected - y).abs().max() > 1e-3
    torch.testing.assert_close(denoiser(y, sigma), expected, rtol=0, atol=2e-6)


@every_family
@pytest.mark.parametrize("steps", [2, 5])
def test_several_steps_are_eulers_on_the_way_to_no_noise(family: str, name: str, options: dict[str, Any], steps: int) -> None:
    """DDIM from ratio r to q maps z = state / signal to D(z) + q / r (z - D(z)), here linear in z."""
    denoiser = build(family, name, steps=steps, **options)
    sigma = told(denoiser, 0.25)
    way = denoiser.parametrization
    times = way.path(way.start(sigma), steps)
    assert len(times) == steps and times == sorted(set(times), reverse=True)
    ratios = [way.noise(time) / way.signal(time) / (way.span[1] - way.span[0]) for time in times]
    z = noisy_images(sigma)
    for ratio, later in zip(ratios, [*ratios[1:], 0.0], strict=True):
        z = MU + (S**2 + ratio * later) / (S**2 + ratio**2) * (z - MU)
    torch.testing.assert_close(denoiser(noisy_images(sigma), sigma), z, rtol=0, atol=5e-6)


@every_family
def test_many_steps_reach_the_end_of_the_ode(family: str, name: str, options: dict[str, Any]) -> None:
    """The flow keeps quantiles: y - mu shrinks from the deviation of y to that of x."""
    denoiser = build(family, name, steps=200, **options)
    sigma = told(denoiser, 0.25)
    y = noisy_images(sigma)
    expected = MU + S / sqrt(S**2 + sigma**2) * (y - MU)
    one = (build(family, name, **options)(y, sigma) - expected).abs().max()
    assert (denoiser(y, sigma) - expected).abs().max() < one / 4


@every_family
def test_no_noise_is_the_least_that_a_model_knows(family: str, name: str, options: dict[str, Any]) -> None:
    y = noisy_images(0.0).clamp(0, 1)
    denoiser = build(family, name, **options)
    assert 0 < told(denoiser, 0.0) < 0.03
    torch.testing.assert_close(denoiser(y, 0.0), posterior(y, told(denoiser, 0.0) ** 2), rtol=0, atol=2e-6)


def test_the_network_is_told_what_diffusers_tells_it() -> None:
    """A float that is no tensor loses what is behind its point in `UNet2DModel`."""
    seen: list[Any] = []
    for family, name in (("exploding", "ScoreSdeVeScheduler"), ("preconditioned", "EDMEulerScheduler"),
                         ("flow", "FlowMatchEulerDiscreteScheduler"), ("preserving", "DDPMScheduler")):  # fmt: skip
        denoiser = build(family, name)
        denoiser.unet.register_forward_pre_hook(lambda module, given: seen.append(given[1]))
        denoiser(noisy_images(0.25), 0.25)
    assert [float(time) for time in seen] == pytest.approx([0.25, log(0.5) / 4, 1000 / 3, 145], rel=1e-6)
    assert [torch.is_tensor(time) for time in seen] == [True, True, True, False]
