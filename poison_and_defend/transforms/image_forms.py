"""The forms that images take in torchvision's world, to 8-bit tensors and back."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.rewriters.base import quantize

_PIL_MODES = ("L", "RGB")


@dataclass(frozen=True)
class ImageForm:
    """What an image was before it became bytes.

    Attributes:
        wrapper: ``PIL.Image.Image``, ``Tensor``, or a class of tv_tensors.
        dtype: Of a tensor; None for PIL.
    """

    wrapper: type
    dtype: torch.dtype | None = None

    def restore(self, pixels: Tensor) -> Any:
        """Turn uint8 ``(C, H, W)`` (tensors: also ``(N, C, H, W)``) into an image of this form on the same device."""
        if self.dtype is None:
            array = pixels.permute(1, 2, 0).cpu().numpy()
            return PIL.Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
        # By true division, as ToTensor and ToDtype(scale=True) do, so that 8 bits come back as the same floats.
        tensor = pixels if self.dtype == torch.uint8 else (pixels.float() / 255).to(self.dtype)
        return tensor if self.wrapper is Tensor else self.wrapper(tensor)


def to_bytes(image: Any) -> tuple[Tensor, ImageForm]:
    """Read an image.

    Args:
        image: A PIL image of mode L or RGB, or a tensor (tv_tensors.Image included) ``(C, H, W)`` or ``(N, C, H, W)``,
            uint8 or float in [0, 1]. Floats are rounded to 8 bits, which is what is stored of an image anyway.

    Returns:
        Uint8 pixels of the tensor's shape, ``(C, H, W)`` for PIL, and the form that brings the same kind back.

    Raises:
        InputError: If it is none of these, or floats leave [0, 1] or are no numbers.
    """
    if isinstance(image, PIL.Image.Image):
        if image.mode not in _PIL_MODES:
            raise InputError(f"a PIL image has mode {image.mode}: convert it to one of {', '.join(_PIL_MODES)} first (images)")
        array = np.array(image)
        return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1).contiguous(), ImageForm(PIL.Image.Image)
    if not isinstance(image, Tensor):
        raise InputError(f"an image is a {type(image).__name__}: it must be a PIL image or a tensor (images)")
    wrapper = type(image) if isinstance(image, tv_tensors.TVTensor) else Tensor
    tensor = image.detach().as_subclass(Tensor)
    if tensor.ndim not in (3, 4):
        raise InputError(f"images have shape {tuple(tensor.shape)}: it must be (C, H, W) or (N, C, H, W) (images)")
    if tensor.dtype == torch.uint8:
        return tensor, ImageForm(wrapper, tensor.dtype)
    if not tensor.is_floating_point():
        raise InputError(f"images are {tensor.dtype}: they must be uint8 or float (images)")
    if tensor.numel():
        least, most = tensor.min().item(), tensor.max().item()
        # Written so that NaN is refused too.
        if not (least >= 0 and most <= 1):
            raise InputError(
                f"float images reach from {least:.4g} to {most:.4g}: they must lie in [0, 1], before any Normalize (images)"
            )
    return quantize(tensor.float()), ImageForm(wrapper, tensor.dtype)
