"""JPEG compression: the free baseline that no table of purification results may leave out."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.rewriters.base import Rewriter


class Jpeg(Rewriter):
    """Compress and decompress; colour is subsampled 4:2:0, as is Pillow's default.

    Args:
        quality: Quality on Pillow's scale, 1 to 95; null for that of all arms.

    Raises:
        InputError: If the quality is out of range.
    """

    name = "jpeg"
    label = "JPEG"
    color = "#5b9a8b"

    def __init__(self, quality: int | None = None) -> None:
        self.given = {"quality": quality}
        self.quality = 75 if quality is None else quality
        if not 1 <= self.quality <= 95:
            raise InputError(f"jpeg_quality is {self.quality}: it is 1 to 95 (--jpeg_quality, --arms.jpeg.quality)")

    def settings(self) -> dict[str, object]:
        """The quality."""
        return {"defense": self.name, "jpeg_quality": self.quality}

    def check(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        """Refuse images that are neither grey nor RGB."""
        if image_shape[0] not in (1, 3):
            raise InputError(f"JPEG takes images with 1 or 3 channels, not {image_shape[0]} (--defenses)")

    def __call__(self, images: Tensor, keys: Tensor, draws: Tensor | None = None) -> Tensor:
        """Compress and decompress one batch; see :meth:`Rewriter.__call__`."""
        self.check((images.shape[1], images.shape[2], images.shape[3]), 0)
        # The codec takes one image a call; there is no batched one for the CPU.
        return torch.stack([_roundtrip(image, self.quality) for image in images.cpu()]).to(images.device)


def _roundtrip(image: Tensor, quality: int) -> Tensor:
    pixels = image.permute(1, 2, 0).numpy()
    with io.BytesIO() as buffer:
        Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(buffer, "JPEG", quality=quality)
        decoded = np.array(Image.open(buffer))
    return torch.from_numpy(decoded.reshape(pixels.shape)).permute(2, 0, 1)
