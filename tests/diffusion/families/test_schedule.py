import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from poison_and_defend.core.errors import InputError
from poison_and_defend.diffusion.families.schedule import noise_ratios, timestep_for


def cumulative(schedule: str, steps: int, **rest) -> torch.Tensor:
    return DDPMScheduler(num_train_timesteps=steps, beta_schedule=schedule, **rest).alphas_cumprod


LINEAR = cumulative("linear", 1000)
COSINE = cumulative("squaredcos_cap_v2", 4000)


@pytest.mark.parametrize(
    ("schedule", "sigma", "timestep", "realised"),
    [
        (LINEAR, 0.05, 27, 0.0510),
        (LINEAR, 0.10, 58, 0.1010),
        (LINEAR, 0.25, 145, 0.2516),
        (LINEAR, 0.50, 259, 0.5024),
        (LINEAR, 1.00, 396, 1.0002),
        (COSINE, 0.05, 225, 0.0500),
        (COSINE, 0.10, 475, 0.1001),
        (COSINE, 0.25, 1158, 0.2501),
        (COSINE, 0.50, 1984, 0.5003),
        (COSINE, 1.00, 2809, 1.0000),
    ],
)
def test_the_published_table(schedule: torch.Tensor, sigma: float, timestep: int, realised: float) -> None:
    assert timestep_for(sigma, schedule) == timestep
    assert noise_ratios(schedule)[timestep].item() / 2 == pytest.approx(realised, abs=5e-5)


@pytest.mark.parametrize("schedule", [LINEAR, COSINE], ids=["linear", "cosine"])
def test_it_is_the_first_timestep_that_covers_sigma(schedule: torch.Tensor) -> None:
    abar = schedule.double().numpy()
    ratios = np.sqrt((1 - abar) / abar)
    for sigma in np.random.default_rng(0).uniform(0, 3, 50):
        expected = next(t for t, ratio in enumerate(ratios) if ratio >= 2 * sigma)
        assert timestep_for(float(sigma), schedule) == expected


def test_every_realised_sigma_maps_to_its_own_timestep() -> None:
    ratios = noise_ratios(LINEAR)
    assert [timestep_for(ratio / 2, LINEAR) for ratio in ratios.tolist()] == list(range(1000))
    assert (ratios.diff() > 0).all()


@pytest.mark.parametrize("schedule", [LINEAR, COSINE], ids=["linear", "cosine"])
def test_no_noise_is_the_first_timestep(schedule: torch.Tensor) -> None:
    assert timestep_for(0, schedule) == 0
    assert timestep_for(1e-9, schedule) == 0


@pytest.mark.parametrize("sigma", [-1e-9, -1.0, float("nan"), float("inf"), 79.0])
def test_sigma_outside_the_schedule_is_refused(sigma: float) -> None:
    with pytest.raises(InputError, match=rf"sigma is {sigma:g}: .* 0 to 78\.7.*--sigma"):
        timestep_for(sigma, LINEAR)


def test_pure_noise_at_the_end_is_never_chosen() -> None:
    zero = cumulative("linear", 1000, rescale_betas_zero_snr=True)
    ratios = noise_ratios(zero)
    last = (ratios[ratios.isfinite()].max() / 2).item()
    assert timestep_for(last, zero) == int(ratios.isfinite().sum()) - 1
    with pytest.raises(InputError, match="--sigma"):
        timestep_for(last * 1.01, zero)
