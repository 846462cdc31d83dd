import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel

from poison_and_defend.diffusion.denoiser import Denoiser, load_denoiser
from poison_and_defend.diffusion.network import evaluate


def four_levels(size: int | tuple[int, int]) -> UNet2DModel:
    """Halves its input three times."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blocks = {"down_block_types": ("DownBlock2D",) * 4, "up_block_types": ("UpBlock2D",) * 4}
        options = {"block_out_channels": (4, 4, 4, 4), "norm_num_groups": 2, "layers_per_block": 1, "add_attention": False}
        return UNet2DModel(sample_size=size, in_channels=1, out_channels=1, **options, **blocks).eval().requires_grad_(False)


@pytest.mark.parametrize("size", [(28, 28), (30, 17), (1, 3), (32, 28)])
def test_sides_that_do_not_divide_are_mirrored_and_cropped(size: tuple[int, int]) -> None:
    unet, time = four_levels(size), torch.tensor([3, 700])
    state = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0))
    found = evaluate(unet, state, time)
    assert found.shape == state.shape
    missing = [-side % 8 for side in size]
    around = [(side // 2, side - side // 2) for side in missing]
    padded = torch.from_numpy(np.pad(state.numpy(), [(0, 0), (0, 0), *around], mode="symmetric"))
    (top, _), (left, _) = around
    expected = unet(padded, time).sample[..., top : top + size[0], left : left + size[1]]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_sides_that_divide_are_left_alone() -> None:
    unet = four_levels(32)
    state = torch.randn(2, 1, 32, 24, generator=torch.Generator().manual_seed(0))
    assert torch.equal(evaluate(unet, state, 5), unet(state, 5).sample)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_denoiser_of_such_a_size_denoises_and_is_read_back(tmp_path, steps: int) -> None:
    unet = four_levels(28)
    unet.save_pretrained(tmp_path)
    DDPMScheduler().save_pretrained(tmp_path)
    noisy = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loaded = load_denoiser(str(tmp_path), steps=steps)
    assert loaded.size == (28, 28)
    found = loaded(noisy, 0.25)
    assert torch.equal(found, Denoiser(unet, DDPMScheduler(), steps=steps)(noisy, 0.25))
    assert found.shape == noisy.shape and found.std() > 0
    found.sum().backward()
    assert noisy.grad is not None and noisy.grad.isfinite().all()
