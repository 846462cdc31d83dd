"""Pairs of an image and a label, as anybody's data set gives them, as arrays."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.images.pictures import plain_picture, to_array

_GREY = ("1", "L", "LA", "La")
_COLOUR = ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB")
_EVERY = 256


def read_items(
    items: Iterable[Any],
    count: int | None,
    name: str,
    option: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Tensor, Tensor]:
    """Read pairs once, in their order.

    Args:
        items: Pairs of an image and a label: tuples, lists, or mappings whose two values are in that order. An image is a
            tensor ``(C, H, W)`` or ``(H, W)``, an array ``(H, W, C)`` or ``(H, W)``, each uint8 or float in [0, 1], or a PIL
            image; a label is a whole number.
        count: How many there are, None if nobody knows.
        name: What they are, for errors.
        option: What the user should change if one is unusable.
        progress: Called with the number of pairs read and of all.

    Returns:
        Images ``(N, C, H, W)`` uint8, and labels ``(N,)`` int64.

    Raises:
        InputError: For the first pair that is none, or whose image has another shape than the first one's.
    """
    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    whole: NDArray[np.uint8] | None = None
    shape: tuple[int, ...] | None = None
    for row, item in enumerate(items):
        where = f"{name}, row {row}"
        image, label = pair_of(item, where, option)
        pixels = _pixels(image, where, option)
        if shape is None:
            shape = pixels.shape
            # One array from the beginning where that is possible: a list of rows, stacked, would be twice the data.
            whole = None if count is None else np.empty((count, *shape), np.uint8)
        if pixels.shape != shape:
            raise InputError(
                f"{where} has shape {_shown(pixels.shape)}, row 0 has {_shown(shape)}: resize all images to one shape "
                f"({option})"
            )
        if whole is None:
            images.append(pixels)
        else:
            whole[row] = pixels
        labels.append(_label(label, where, option))
        if len(labels) % _EVERY == 0 or len(labels) == count:
            progress(len(labels), len(labels) if count is None else count)
    if not labels:
        raise InputError(f"{name} is empty ({option})")
    found = np.stack(images) if whole is None else whole[: len(labels)]
    return torch.from_numpy(found), torch.tensor(labels, dtype=torch.int64)


def pair_of(item: Any, where: str, option: str) -> tuple[Any, Any]:
    """An image and a label, or a batch of each.

    Raises:
        InputError: If it is anything else.
    """
    values = list(item.values()) if isinstance(item, Mapping) else list(item) if isinstance(item, tuple | list) else None
    if values is None or len(values) != 2:
        found = type(item).__name__ if values is None else f"{type(item).__name__} of {len(values)}"
        raise InputError(f"{where} is a {found}: a pair of an image and a label is needed ({option})")
    return values[0], values[1]


def _shown(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def _pixels(image: Any, where: str, option: str) -> NDArray[np.uint8]:
    """``(C, H, W)`` of one image."""
    if isinstance(image, Image.Image):
        if image.mode not in _GREY and image.mode not in _COLOUR:
            raise InputError(f"{where} is a PIL image of mode {image.mode}: convert it to L or RGB ({option})")
        return to_array(plain_picture(image, "L" if image.mode in _GREY else "RGB"))
    if isinstance(image, Tensor):
        # No array holds bfloat16.
        plain = image.detach().cpu()
        array = (plain.float() if plain.is_floating_point() else plain).numpy()
    elif isinstance(image, np.ndarray):
        array = image.transpose(2, 0, 1) if image.ndim == 3 else image
    else:
        raise InputError(
            f"{where} begins with a {type(image).__name__}: a tensor, an array or a PIL image is needed ({option})"
        )
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[0] not in (1, 3) or 0 in array.shape:
        raise InputError(
            f"{where} is of shape {_shown(tuple(image.shape))}: a tensor is (C, H, W), an array (H, W, C), with 1 or 3 "
            f"channels ({option})"
        )
    if array.dtype.kind == "f":
        low, high = array.min(), array.max()
        if not (low >= 0 and high <= 1):
            raise InputError(
                f"{where} ranges from {low:g} to {high:g}: float images lie in [0, 1], so leave normalization to the network "
                f"({option})"
            )
        return (array * array.dtype.type(255)).round().astype(np.uint8)
    if array.dtype != np.uint8:
        raise InputError(f"{where} is of dtype {array.dtype}: images are uint8, or float in [0, 1] ({option})")
    return array


def _label(label: Any, where: str, option: str) -> int:
    plain = label.item() if isinstance(label, Tensor | np.ndarray | np.generic) and label.ndim == 0 else label
    if isinstance(plain, bool) or not isinstance(plain, int):
        found = type(plain).__name__ if plain is label else f"{type(label).__name__} of {type(plain).__name__}"
        raise InputError(f"{where} has a label that is a {found}: the number of a class, from 0, is needed ({option})")
    return plain
