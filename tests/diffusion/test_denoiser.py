import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.diffusion.denoiser import Denoiser

PREDICTIONS = ["epsilon", "sample", "v_prediction"]
every_prediction = pytest.mark.parametrize("prediction", PREDICTIONS)


@pytest.fixture(scope="module")
def noisy() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, 1, 8, 8, generator=generator) + 0.25 * torch.randn(3, 1, 8, 8, generator=generator)


def scaled(noisy: Tensor, scheduler, time: int) -> Tensor:
    return scheduler.alphas_cumprod[time].sqrt() * (2 * noisy - 1)


@every_prediction
@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.25, 1.0])
def test_one_shot_is_diffusers_own_estimate(unet, make_scheduler, noisy, prediction: str, sigma: float) -> None:
    scheduler = make_scheduler(prediction, clip_sample=True)
    denoiser = Denoiser(unet, scheduler)
    time = denoiser.timestep(sigma)
    state = scaled(noisy, scheduler, time)
    expected = scheduler.step(unet(state, time).sample, time, state).pred_original_sample
    torch.testing.assert_close(denoiser(noisy, sigma), (expected + 1) / 2, rtol=0, atol=2e-5)


def test_learned_variance_is_split_off_as_diffusers_does(make_unet, make_scheduler, noisy) -> None:
    unet, scheduler = make_unet(out_channels=2), make_scheduler(variance_type="learned_range")
    denoiser = Denoiser(unet, scheduler)
    state = scaled(noisy, scheduler, 145)
    expected = scheduler.step(unet(state, 145).sample, 145, state).pred_original_sample
    before = denoiser(noisy, 0.25)
    torch.testing.assert_close(before, (expected + 1) / 2, rtol=0, atol=2e-5)
    unet.conv_out.weight.data[1] += 1
    assert torch.equal(denoiser(noisy, 0.25), before)
    unet.conv_out.weight.data[0] += 1
    assert not torch.equal(denoiser(noisy, 0.25), before)


@every_prediction
@pytest.mark.parametrize(("steps", "sigma"), [(2, 0.25), (3, 0.5), (7, 0.1), (5, 0.004)])
def test_several_steps_follow_ddim(unet, make_scheduler, noisy, prediction: str, steps: int, sigma: float) -> None:
    """Song et al., equation 12 with no noise, written with alpha-bar in double precision."""
    denoiser = Denoiser(unet, make_scheduler(prediction), steps=steps)
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000, dtype=np.float64))
    start = int(np.argmax(np.sqrt((1 - abar) / abar) >= 2 * sigma))
    path = sorted({int(np.rint(start * (1 - i / steps))) for i in range(steps)}, reverse=True)
    state, clean = np.sqrt(abar[start]) * (2 * noisy - 1), None
    for time, later in zip(path, [*path[1:], None], strict=True):
        signal, noise = np.sqrt(abar[time]), np.sqrt(1 - abar[time])
        output = unet(state, time).sample
        if prediction == "epsilon":
            output = (state - noise * output) / signal
        elif prediction == "v_prediction":
            output = signal * state - noise * output
        clean = output.clamp(-1, 1)
        if later is not None:
            epsilon = (state - signal * clean) / noise
            state = np.sqrt(abar[later]) * clean + np.sqrt(1 - abar[later]) * epsilon
    torch.testing.assert_close(denoiser(noisy, sigma), (clean + 1) / 2, rtol=0, atol=1e-4)


@every_prediction
def test_several_steps_are_diffusers_own_ddim_where_their_timesteps_agree(unet, make_scheduler, noisy, prediction) -> None:
    ours = Denoiser(unet, make_scheduler(prediction), steps=4)
    theirs = DDIMScheduler(num_train_timesteps=1000, beta_schedule="linear", prediction_type=prediction, clip_sample=True)
    theirs.set_timesteps(25)  # timesteps 40 apart, as ours from 160 are
    sigma = ((1 - theirs.alphas_cumprod[160]) / theirs.alphas_cumprod[160]).double().sqrt().item() / 2 - 1e-4
    assert ours.timestep(sigma) == 160
    state = scaled(noisy, theirs, 160)
    for time in (160, 120, 80, 40):
        result = theirs.step(unet(state, time).sample, time, state, use_clipped_model_output=True)
        state = result.prev_sample
    torch.testing.assert_close(ours(noisy, sigma), (result.pred_original_sample + 1) / 2, rtol=0, atol=1e-4)


@every_prediction
@pytest.mark.parametrize("steps", [1, 3])
def test_output_is_an_image(unet, make_scheduler, noisy, prediction: str, steps: int) -> None:
    found = Denoiser(unet, make_scheduler(prediction), steps=steps)(10 * noisy, 0.5)
    assert found.shape == noisy.shape
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.std() > 0


@every_prediction
@pytest.mark.parametrize("steps", [1, 3])
def test_gradient_agrees_with_finite_differences(make_unet, make_scheduler, noisy, prediction: str, steps: int) -> None:
    denoiser = Denoiser(make_unet().double(), make_scheduler(prediction), steps=steps)
    generator = torch.Generator().manual_seed(1)
    weight, direction = torch.randn(2, *noisy.shape, generator=generator, dtype=torch.float64)
    images = noisy.double().requires_grad_()

    def value(shift: float) -> float:
        return (denoiser(images.detach() + shift * direction, 0.1) * weight).sum().item()

    (denoiser(images, 0.1) * weight).sum().backward()
    assert images.grad.isfinite().all()
    assert images.grad.abs().max() > 0
    slope = (value(1e-6) - value(-1e-6)) / 2e-6
    assert (images.grad * direction).sum().item() == pytest.approx(slope, rel=1e-4)


def test_images_of_a_batch_do_not_mix(unet, make_scheduler, noisy) -> None:
    denoiser = Denoiser(unet, make_scheduler(), steps=2)
    alone = torch.cat([denoiser(image[None], 0.25) for image in noisy])
    torch.testing.assert_close(denoiser(noisy, 0.25), alone, rtol=0, atol=1e-5)


def test_images_of_another_shape_are_refused(unet, make_scheduler) -> None:
    denoiser = Denoiser(unet, make_scheduler())
    denoiser.check_images((1, 8, 8))
    for shape in ((3, 8, 8), (1, 32, 32), (1, 8, 7)):
        with pytest.raises(InputError, match=rf"\(1, 8, 8\).*{', '.join(map(str, shape))}.*--denoiser"):
            denoiser.check_images(shape)


@pytest.mark.parametrize("steps", [0, -1])
def test_fewer_than_one_step_is_refused(unet, make_scheduler, steps: int) -> None:
    with pytest.raises(InputError, match=rf"denoise_steps is {steps}.*--denoise_steps"):
        Denoiser(unet, make_scheduler(), steps=steps)


def test_models_that_do_not_fit_are_refused(make_unet, make_scheduler) -> None:
    with pytest.raises(InputError, match=r"1 channels to 3.*--denoiser"):
        Denoiser(make_unet(out_channels=3), make_scheduler())
    scheduler = make_scheduler()
    scheduler.register_to_config(prediction_type="score")
    with pytest.raises(InputError, match=r"type score.*--denoiser"):
        Denoiser(make_unet(), scheduler)


def test_sigma_beyond_the_schedule_is_refused(unet, make_scheduler, noisy) -> None:
    with pytest.raises(InputError, match=r"sigma is 100.*--sigma"):
        Denoiser(unet, make_scheduler())(noisy, 100.0)
