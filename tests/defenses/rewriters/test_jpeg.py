import io

import numpy as np
import pytest
import torch
from PIL import Image

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import Jpeg


def jpeg(images: torch.Tensor, quality: int) -> torch.Tensor:
    return Jpeg(quality)(images, torch.arange(len(images)))


QUALITIES = pytest.mark.parametrize("quality", [1, 75, 95])


def smooth(channels: int) -> torch.Tensor:
    """Gradients and a coloured square: what JPEG is for."""
    ramp = torch.linspace(0, 255, 16)
    image = torch.stack([ramp[:, None] * torch.ones(16), ramp * torch.ones(16, 1), torch.full((16, 16), 90.0)])[:channels]
    image[0, 4:8, 4:8] = 250
    return torch.stack([image, image.flip(-1)]).round().to(torch.uint8)


def pillow(pixels: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="jpeg", quality=quality)
    return np.asarray(Image.open(io.BytesIO(buffer.getvalue())))


@QUALITIES
def test_grey_is_a_pillow_round_trip(quality: int) -> None:
    images = smooth(1)
    for found, image in zip(jpeg(images, quality), images, strict=True):
        np.testing.assert_array_equal(found[0].numpy(), pillow(image[0].numpy(), quality))


@QUALITIES
def test_colour_is_a_pillow_round_trip(quality: int) -> None:
    images = smooth(3)
    for found, image in zip(jpeg(images, quality), images, strict=True):
        np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), pillow(image.permute(1, 2, 0).numpy(), quality))


@pytest.mark.parametrize("channels", [1, 3])
def test_better_quality_is_nearer_to_the_image(channels: int) -> None:
    images = smooth(channels)
    errors = [(jpeg(images, quality).float() - images.float()).square().mean().item() for quality in (5, 50, 95)]
    assert errors == sorted(errors, reverse=True)
    assert 0 < errors[-1] < errors[0] / 2
    assert jpeg(images, 50).dtype == torch.uint8


def test_the_images_are_left_as_they_were() -> None:
    images = smooth(3)
    jpeg(images, 10)
    assert torch.equal(images, smooth(3))


@pytest.mark.parametrize("channels", [2, 4])
def test_other_numbers_of_channels_are_refused(channels: int) -> None:
    with pytest.raises(InputError, match=rf"1 or 3 channels, not {channels}"):
        jpeg(torch.zeros(1, channels, 8, 8, dtype=torch.uint8), 75)


@pytest.mark.parametrize("quality", [0, 96])
def test_a_quality_out_of_range_is_refused(quality: int) -> None:
    with pytest.raises(InputError, match=rf"jpeg_quality is {quality}: it is 1 to 95 \(--jpeg_quality, --arms.jpeg.quality\)"):
        Jpeg(quality)
