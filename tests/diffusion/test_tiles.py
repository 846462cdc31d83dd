from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.rewriters.base import quantize
from poison_and_defend.diffusion.denoiser import load_denoiser
from poison_and_defend.diffusion.tiles import TileLayout
from tests.countermeasures import rewriter

CIFAR10 = Path(__file__).parents[2] / "poison_and_defend" / "pretrained" / "cifar10"


@st.composite
def layouts(draw: st.DrawFn) -> TileLayout:
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    overlap = draw(st.integers(0, min(size) - 1))
    return TileLayout(draw(st.integers(1, 40)), draw(st.integers(1, 40)), size, overlap)


def random_images(layout: TileLayout, n: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.rand(n, channels, *layout.image, generator=torch.Generator().manual_seed(0))


@given(layouts())
@settings(max_examples=150, deadline=None)
def test_what_is_cut_and_blended_is_the_image(layout: TileLayout) -> None:
    images = random_images(layout)
    tiles = layout.cut(layout.pad(images))
    assert tiles.shape == (2 * layout.tiles, 3, *layout.size)
    torch.testing.assert_close(layout.blend(tiles, 2), images, rtol=0, atol=1e-6)


@given(layouts())
@settings(max_examples=100, deadline=None)
def test_weights_are_positive_and_sum_to_one_everywhere_on_the_canvas(layout: TileLayout) -> None:
    weights = torch.einsum("ri,cj->rcij", layout.down, layout.across)
    assert 0 < weights.min() <= weights.max() <= 1
    total, count = torch.zeros(layout.canvas, dtype=torch.float64), torch.zeros(layout.canvas)
    for row in range(layout.grid[0]):
        for column in range(layout.grid[1]):
            place = tuple(
                slice(k * step, k * step + side)
                for k, step, side in zip((row, column), layout.stride, layout.size, strict=True)
            )
            total[place] += weights[row, column]
            count[place] += 1
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)
    assert count.min() >= 1
    assert (total[count == 1] == 1).all()


@given(layouts())
@settings(max_examples=100, deadline=None)
def test_the_canvas_is_numpys_symmetric_padding_even_on_both_sides(layout: TileLayout) -> None:
    images = random_images(layout, 1, 1)
    room = [whole - side for whole, side in zip(layout.canvas, layout.image, strict=True)]
    assert all(0 <= gap < max(side, step) for gap, side, step in zip(room, layout.size, layout.stride, strict=True))
    padding = [(0, 0), (0, 0), *((gap // 2, gap - gap // 2) for gap in room)]
    np.testing.assert_array_equal(layout.pad(images).numpy(), np.pad(images.numpy(), padding, mode="symmetric"))


@given(layouts())
@settings(max_examples=60, deadline=None)
def test_where_one_tile_lies_its_bytes_are_kept(layout: TileLayout) -> None:
    """Tiles of one image that disagree: a pixel under one tile alone is that tile's, bit for bit."""
    tiles = torch.rand(layout.tiles, 1, *layout.size, generator=torch.Generator().manual_seed(1))
    blended = layout.blend(tiles, 1)
    canvas = layout.cut(torch.arange(layout.canvas[0] * layout.canvas[1]).reshape(1, 1, *layout.canvas))
    values, counts = canvas.unique(return_counts=True)
    own = torch.zeros(values.numel())
    own[canvas.flatten()] = tiles.flatten()
    top, left = layout.before
    crop = (slice(top, top + layout.image[0]), slice(left, left + layout.image[1]))
    single = (counts == 1).reshape(layout.canvas)[crop]
    assert torch.equal(blended[0, 0][single], own.reshape(layout.canvas)[crop][single])


def test_an_image_of_the_models_size_is_left_alone() -> None:
    layout = TileLayout(8, 8, (8, 8), 3)
    images = torch.rand(5, 3, 8, 8)
    assert layout.tiles == 1
    assert layout.pad(images) is images
    assert torch.equal(layout.cut(images), images)
    assert torch.equal(layout.blend(images, 5), images)


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (1, 1), (3, 77)])
def test_images_thinner_than_their_padding(shape: tuple[int, int]) -> None:
    layout = TileLayout(*shape, (32, 32), 8)
    images = torch.rand(1, 1, *shape)
    torch.testing.assert_close(layout.blend(layout.cut(layout.pad(images)), 1), images, rtol=0, atol=1e-6)


def test_bytes_are_cut_too_and_images_of_a_batch_do_not_mix() -> None:
    layout = TileLayout(20, 13, (8, 8), 3)
    images = torch.randint(0, 256, (3, 2, 20, 13), dtype=torch.uint8)
    tiles = layout.cut(layout.pad(images))
    assert tiles.dtype == torch.uint8
    for number, image in enumerate(images.split(1)):
        alone = layout.cut(layout.pad(image))
        assert torch.equal(tiles[number * layout.tiles : (number + 1) * layout.tiles], alone)
        assert torch.equal(layout.blend(tiles.double(), 3)[number], layout.blend(alone.double(), 1)[0])


@pytest.mark.parametrize("overlap", [-1, 8, 100])
def test_an_overlap_out_of_range_is_refused(overlap: int) -> None:
    with pytest.raises(InputError, match=rf"overlap is {overlap}.*8 x 9.*0 to 7.*--overlap"):
        TileLayout(20, 20, (8, 9), overlap)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(InputError, match="0 x 3"):
        TileLayout(0, 3, (8, 8), 0)


def seam_ratio(layout: TileLayout, image: torch.Tensor) -> float:
    """Mean absolute jump from pixel to pixel across the borders of tiles, relative to the jump elsewhere."""
    across, elsewhere = [], []
    for axis in (0, 1):
        starts = torch.arange(layout.grid[axis]) * layout.stride[axis] - layout.before[axis]
        borders = torch.cat([starts, starts + layout.size[axis]])
        inside = torch.zeros(layout.image[axis] - 1, dtype=torch.bool)
        inside[borders[(borders > 0) & (borders < layout.image[axis])] - 1] = True
        jumps = image.diff(dim=1 + axis).abs().transpose(1 + axis, -1)
        across.append(jumps[..., inside].flatten())
        elsewhere.append(jumps[..., ~inside].flatten())
    return (torch.cat(across).mean() / torch.cat(elsewhere).mean()).item()


def test_overlap_removes_the_seams_of_a_trained_model() -> None:
    """Measured: 1.01 with an overlap of 8, 3.3 without."""
    down, across = torch.meshgrid(torch.linspace(0, 1, 96), torch.linspace(0, 1, 80), indexing="ij")
    smooth = torch.stack([0.5 + 0.4 * (3 * down + across).sin(), 0.2 + 0.6 * across, 0.5 + 0.3 * (4 * down * across).cos()])
    images = quantize(smooth).repeat(4, 1, 1, 1)
    model = load_denoiser(str(CIFAR10))
    defense = rewriter("diffusion", sigma=0.25, denoiser=model)
    ratios = {}
    for overlap in (0, 8):
        layout = TileLayout(96, 80, model.size, overlap)
        with torch.no_grad():
            tiles = layout.cut(defense.add_noise(layout.pad(images), torch.arange(4)))
            clean = layout.blend(torch.cat([defense.denoise(part) for part in tiles.split(16)]), 4)
        ratios[overlap] = sum(seam_ratio(layout, image) for image in clean) / 4
    assert 0.9 < ratios[8] < 1.15, ratios
    assert ratios[0] > 1.5 * ratios[8], ratios
