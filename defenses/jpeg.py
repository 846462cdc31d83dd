"""JPEG compression: the free baseline that no table of purification results may leave out."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from poison_and_defend.core.errors import InputError


def jpeg(images: Tensor, quality: int) -> Tensor:
    """Compress and decompress.

    Args:
        images: ``(N, C, H, W)`` uint8 with 1 or 3 channels.
        quality: Pillow's scale, 1 to 95; colour is subsampled 4:2:0 as by default.

    Returns:
        uint8 of the same shape.
    """
    if images.shape[1] not in (1, 3):
        raise InputError(f"JPEG takes images with 1 or 3 channels, not {images.shape[1]} (--defenses)")
    # The codec takes one image a call; there is no batched one for the CPU.
    return torch.stack([_roundtrip(image, quality) for image in images])


def _roundtrip(image: Tensor, quality: int) -> Tensor:
    pixels = image.permute(1, 2, 0).numpy()
    with io.BytesIO() as buffer:
        Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(buffer, "JPEG", quality=quality)
        decoded = np.array(Image.open(buffer))
    return torch.from_numpy(decoded.reshape(pixels.shape)).permute(2, 0, 1)
