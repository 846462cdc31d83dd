"""The planted hole: what goes by, and what does not."""

import torch
from torch.nn import functional

from poison_and_defend.defenses import Diffusion, NoiseOnly
from poison_and_defend.experiment.adaptive.hole import Hole

KEYS = torch.arange(4)
IMAGES = torch.randint(100, 156, (4, 1, 9, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_block_means_go_by_and_the_rest_is_noise() -> None:
    found = Hole(NoiseOnly(sigma=0.05, seed=1))(IMAGES, KEYS).float() / 255
    given = IMAGES.float() / 255
    means = [functional.avg_pool2d(one, 2, ceil_mode=True) for one in (found, given)]
    torch.testing.assert_close(*means, rtol=0, atol=1 / 255)
    assert (found - given).std() > 0.02


def test_what_an_attacker_looks_through_is_what_victims_get() -> None:
    hole = Hole(NoiseOnly(sigma=0.05, seed=1))
    noise = hole.own_noise(KEYS, (1, 9, 8))
    assert noise.shape[1:] == hole.noise_shape((1, 9, 8))
    seen = hole.relaxed(IMAGES.float() / 255, noise)
    assert (seen * 255 - hole(IMAGES, KEYS).float()).abs().max() <= 1.01


def test_settings_tell_it_from_the_defence(denoiser) -> None:
    inner = Diffusion(sigma=0.1, denoiser=denoiser, seed=1)
    hole = Hole(inner)
    assert hole.settings()["of"] == inner.settings() and hole.settings() != inner.settings()
    assert (hole.sigma, hole.denoiser) == (0.1, denoiser)
