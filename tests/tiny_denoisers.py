"""Fixtures of the rooms that denoise: real models of 17 thousand parameters for 8 x 8 images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel

from poison_and_defend.diffusion.denoiser import Denoiser, load_denoiser


def build_unet(seed: int = 0, channels: int = 1, out_channels: int | None = None) -> UNet2DModel:
    """A real UNet2DModel of 17 k parameters for 8 x 8 images, one block of which attends."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DModel(
            sample_size=8,
            in_channels=channels,
            out_channels=out_channels or channels,
            block_out_channels=(8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=4,
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
        )
    return unet.eval().requires_grad_(False)


def build_scheduler(prediction: str = "epsilon", **rest: Any) -> DDPMScheduler:
    return DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", prediction_type=prediction, **rest)


@pytest.fixture(scope="session")
def unet() -> UNet2DModel:
    return build_unet()


@pytest.fixture(scope="session")
def make_unet() -> Callable[..., UNet2DModel]:
    return build_unet


@pytest.fixture(scope="session")
def make_scheduler() -> Callable[..., DDPMScheduler]:
    return build_scheduler


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models of other weights, each one diffusers folder."""
    paths = []
    for seed in (0, 1):
        path = tmp_path_factory.mktemp(f"denoiser{seed}")
        build_unet(seed).save_pretrained(path)
        build_scheduler().save_pretrained(path)
        paths.append(path)
    return paths


@pytest.fixture(scope="session")
def denoiser(folders: list[Path]) -> Denoiser:
    return load_denoiser(str(folders[0]))


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (6, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
