"""Our single step against diffusers' own: from a noise level straight to none, with real networks."""

from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.diffusion.denoiser import Denoiser
from poison_and_defend.diffusion.families.parametrizations import (
    FlowMatching,
    Preconditioned,
    VarianceExploding,
    VariancePreserving,
)
from poison_and_defend.diffusion.families.schedulers import SCHEDULERS, parametrization_of

SIGMA = 0.25


@pytest.fixture(scope="module")
def noisy() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 1, 8, 8, generator=generator) + SIGMA * torch.randn(2, 1, 8, 8, generator=generator)


def preserving_names() -> list[str]:
    names = []
    for name in SCHEDULERS:
        try:
            if isinstance(parametrization_of(getattr(diffusers, name)()), VariancePreserving):
                names.append(name)
        except ImportError:  # one of them needs torchsde
            continue
    return names


@pytest.mark.parametrize("name", preserving_names())
def test_abar_is_the_schedulers_own(name: str) -> None:
    options: dict[str, Any] = {"num_train_timesteps": 100, "beta_start": 0.001, "beta_end": 0.05}
    scheduler = getattr(diffusers, name)(**options)
    expected = diffusers.DDPMScheduler(**options).alphas_cumprod
    found = parametrization_of(scheduler)
    assert isinstance(found, VariancePreserving)
    torch.testing.assert_close(found.alphas_cumprod, expected.double())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_euler_schedulers_step_to_no_noise(unet, noisy, prediction: str) -> None:
    scheduler = diffusers.EulerDiscreteScheduler(prediction_type=prediction)
    denoiser = Denoiser(unet, scheduler)
    time = int(denoiser.timestep(SIGMA))
    scheduler.set_timesteps(timesteps=[time])
    ratio = float(scheduler.sigmas[0])
    # Its samples are x + ratio n and are scaled for the network.
    state = 2 * noisy - 1
    seen = scheduler.scale_model_input(state, scheduler.timesteps[0])
    torch.testing.assert_close(seen, scheduler.alphas_cumprod[time].sqrt() * state)
    expected = scheduler.step(unet(seen, time).sample, scheduler.timesteps[0], state).prev_sample
    assert ratio == pytest.approx(2 * SIGMA, rel=0.02)
    torch.testing.assert_close(denoiser(noisy, SIGMA), (expected.clamp(-1, 1) + 1) / 2, rtol=0, atol=2e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_the_edm_schedulers_estimate(unet, noisy, name: str, prediction: str) -> None:
    scheduler = getattr(diffusers, name)(prediction_type=prediction, sigma_data=0.4)
    s, state = 2 * SIGMA, 2 * noisy - 1
    told = scheduler.precondition_noise(s)
    output = unet(scheduler.precondition_inputs(state, s), told).sample
    expected = scheduler.precondition_outputs(state, output, s)
    torch.testing.assert_close(Denoiser(unet, scheduler)(noisy, SIGMA), (expected.clamp(-1, 1) + 1) / 2, rtol=0, atol=2e-5)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_flow_schedulers_step_to_no_noise(unet, noisy, shift: float) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    denoiser = Denoiser(unet, scheduler)
    t = denoiser.timestep(SIGMA)
    # A sampler that is given the time before its shift stops at t.
    scheduler.set_timesteps(sigmas=[t / (shift - (shift - 1) * t)])
    assert float(scheduler.sigmas[0]) == pytest.approx(t)
    state = (1 - t) * (2 * noisy - 1)
    expected = scheduler.step(unet(state, scheduler.timesteps[0]).sample, scheduler.timesteps[0], state).prev_sample
    torch.testing.assert_close(denoiser(noisy, SIGMA), (expected.clamp(-1, 1) + 1) / 2, rtol=0, atol=2e-5)


def test_the_score_schedulers_step_to_no_noise(unet, noisy) -> None:
    """Its last step goes from its least noise to none; so the least is ours."""
    denoiser = Denoiser(unet, diffusers.ScoreSdeVeScheduler())
    scheduler = diffusers.ScoreSdeVeScheduler(sigma_min=SIGMA)
    scheduler.set_timesteps(1)
    scheduler.set_sigmas(1)
    output = unet(noisy, torch.full((2,), SIGMA)).sample
    expected = scheduler.step_pred(output, torch.tensor(0.0), noisy).prev_sample_mean
    torch.testing.assert_close(denoiser(noisy, SIGMA), expected.clamp(0, 1), rtol=0, atol=2e-5)


def test_a_network_with_fourier_embeddings_takes_any_noise_level(noisy) -> None:
    """The networks that come with variance exploding schedulers (``google/ncsnpp-*``)."""
    noisy = noisy.expand(-1, 3, -1, -1)
    torch.manual_seed(0)
    options = {"block_out_channels": (8, 8), "norm_num_groups": 4, "time_embedding_type": "fourier", "layers_per_block": 1}
    blocks = {"down_block_types": ("SkipDownBlock2D",) * 2, "up_block_types": ("SkipUpBlock2D",) * 2}
    unet = diffusers.UNet2DModel(sample_size=8, in_channels=3, out_channels=3, **options, **blocks).eval()
    denoiser = Denoiser(unet, diffusers.ScoreSdeVeScheduler())
    with torch.no_grad():
        expected = noisy + SIGMA**2 * unet(noisy, torch.full((2,), SIGMA)).sample
        torch.testing.assert_close(denoiser(noisy, SIGMA), expected.clamp(0, 1), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("scheduler", "largest"),
    [
        (diffusers.ScoreSdeVeScheduler(sigma_max=50.0), 50),
        (diffusers.EDMEulerScheduler(sigma_max=80.0), 40),
        (diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000), 499.5),
        (diffusers.DDPMScheduler(), 78.7),
    ],
)
def test_more_noise_than_the_schedule_has_is_refused(scheduler: Any, largest: float) -> None:
    found = parametrization_of(scheduler)
    assert found.largest == pytest.approx(largest, rel=1e-3)
    for sigma in (largest * 1.01, -0.1, float("nan")):
        with pytest.raises(InputError, match=rf"sigma is {sigma:g}: this denoiser's schedule covers 0 to .*--sigma"):
            found.start(sigma)


def test_families() -> None:
    kinds = {
        "ScoreSdeVeScheduler": VarianceExploding,
        "EDMEulerScheduler": Preconditioned,
        "FlowMatchHeunDiscreteScheduler": FlowMatching,
        "DDIMScheduler": VariancePreserving,
    }
    assert {name: type(parametrization_of(getattr(diffusers, name)())) for name in kinds} == kinds

    class Mine(diffusers.DDPMScheduler):
        pass

    assert isinstance(parametrization_of(Mine()), VariancePreserving)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (diffusers.CMStochasticIterativeScheduler(), "CMStochasticIterativeScheduler"),
        (diffusers.LCMScheduler(), "LCMScheduler"),
        (diffusers.VQDiffusionScheduler(num_vec_classes=4), "VQDiffusionScheduler"),
        (diffusers.IPNDMScheduler(), "IPNDMScheduler"),
        (object(), "object"),
        (diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True), "invert_sigmas"),
        (diffusers.DDPMScheduler(prediction_type="score"), "type score"),
        (diffusers.UniPCMultistepScheduler(use_flow_sigmas=True), "epsilon with use_flow_sigmas"),
        (diffusers.EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction"), "continuous"),
        (diffusers.EDMEulerScheduler(sigma_data=0.0), "sigma_data is 0"),
        (diffusers.ScoreSdeVeScheduler(sigma_min=1.0, sigma_max=0.1), "from 1 to 0.1"),
    ],
)
def test_others_are_refused_by_name(scheduler: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"{message}.*--denoiser"):
        parametrization_of(scheduler)
