import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from poison_and_defend.datamodules import DigitsDataModule, FashionMNISTDataModule
from poison_and_defend.images.near_copies import near_copies

DATA = FashionMNISTDataModule()


def pictures(count: int, side: int = 32) -> Tensor:
    """Smooth colourful pictures, all different."""
    small = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(5))
    return (functional.interpolate(small, (side, side), mode="bicubic").clamp(0, 1) * 255).byte()


def encoded(images: Tensor, quality: int) -> Tensor:
    """Through JPEG and back."""
    found = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        found.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))
    return torch.stack(found)


def resized(images: Tensor, side: int) -> Tensor:
    return functional.interpolate(images.float(), (side, side), mode="bilinear", antialias=True).round().clamp(0, 255).byte()


MADE = {
    "encoded again": lambda images: encoded(images, 50),
    "half as large": lambda images: resized(images, 16),
    "twice as large": lambda images: resized(images, 64),
    "perturbed by 8/255": lambda images: (images.float() + 8 * torch.randn(images.shape).sign()).clamp(0, 255).byte(),
    "mirrored": lambda images: images.flip(3),
    "darker": lambda images: (images.float() * 0.8).byte(),
}


@pytest.mark.parametrize("name", MADE)
def test_copies_are_found_and_other_pictures_are_not(name: str) -> None:
    received = pictures(400)
    public = torch.cat([pictures(700)[400:600, :, :, :], received[:0]])
    assert len(near_copies(public, received)) == 0
    copies = MADE[name](received[100:105])
    mixed = torch.cat([resized(public, copies.shape[2]), copies])
    found = near_copies(mixed, received)
    assert found.rows.tolist() == [200, 201, 202, 203, 204] and found.others.tolist() == [100, 101, 102, 103, 104]
    assert found.suspicious and found.told() == "200 like 100, 201 like 101, 202 like 102, 203 like 103, 204 like 104"
    assert found.told(2) == "200 like 100, 201 like 101, ..."


def test_sets_whose_images_are_all_alike_need_more_than_that() -> None:
    public, received = DATA.split("public").images, DATA.split("train").images
    found = near_copies(public, received)
    assert found.level > 0.95 and found.expected > 0 and not found.suspicious
    copied = near_copies(torch.cat([public[:1500], received[:500]]), received)
    assert copied.suspicious and set(range(1500, 2000)) <= set(copied.rows.tolist())


def test_digits_of_the_public_part_are_not_taken_for_received_ones() -> None:
    data = DigitsDataModule()
    assert not near_copies(data.split("public").images, data.split("train").images).suspicious


def test_empty_pictures_and_empty_sets_are_like_nothing() -> None:
    white = torch.full((3, 3, 32, 32), 255, dtype=torch.uint8)
    assert len(near_copies(white, white)) == 0
    for first, second in ((pictures(2)[:0], pictures(2)), (pictures(2), pictures(2)[:0])):
        found = near_copies(first, second)
        assert len(found) == 0 and not found.suspicious
