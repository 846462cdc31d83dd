import os

# Before torch and wandb are imported by any test: nothing here may reach a network or fill the machine with threads.
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

if "PYTEST_XDIST_WORKER" in os.environ:
    # One core for each worker: threads of two that wait for each other cost more than they bring.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel

from poison_and_defend.diffusion.denoiser import Denoiser


def tiny_unet(channels: int = 1, size: int = 32, out_channels: int | None = None) -> UNet2DModel:
    """A real UNet of about 20 thousand parameters."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DModel(
            sample_size=size,
            in_channels=channels,
            out_channels=out_channels or channels,
            layers_per_block=1,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
        ).eval()


@pytest.fixture(scope="session")
def denoiser() -> Denoiser:
    return Denoiser(tiny_unet(), DDPMScheduler())


@pytest.fixture(scope="session")
def denoiser_folder(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("denoiser")
    tiny_unet().save_pretrained(folder)
    DDPMScheduler().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def colour_denoiser_folder(tmp_path_factory) -> str:
    """Takes RGB tiles of 16 x 16."""
    folder = tmp_path_factory.mktemp("colour_denoiser")
    tiny_unet(channels=3, size=16).save_pretrained(folder)
    DDPMScheduler().save_pretrained(folder)
    return str(folder)
