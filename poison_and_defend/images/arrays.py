"""A set of images as arrays, and the ``.npz`` files that hold one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.hashing import hash_array
from poison_and_defend.core.reading.arrays import read_npz


@dataclass(frozen=True, eq=False)
class Split:
    """A whole split as arrays.

    Attributes:
        images: ``(N, C, H, W)`` uint8.
        labels: ``(N,)`` int64, each in ``0..num_classes - 1``.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, rows: NDArray[np.int64]) -> "Split":
        """Copies of the rows ``(n,)``, in their order."""
        chosen = torch.from_numpy(rows)
        return Split(self.images[chosen], self.labels[chosen])

    @staticmethod
    def joined(splits: Sequence["Split"]) -> "Split":
        """One behind the other; images must be of one shape."""
        return Split(torch.cat([split.images for split in splits]), torch.cat([split.labels for split in splits]))


def make_split(images: Any, labels: Any, num_classes: int, name: str) -> Split:
    """Validate and convert what a source delivered.

    Args:
        images: uint8, or float in [0, 1]; NCHW, NHWC or NHW, as an array or a tensor.
        labels: Integers, ``(N,)``.

    Raises:
        InputError: If a shape, a dtype or a value is out of range; the message starts with ``name``.
    """
    images, labels = _tensor(images, f"{name}: images"), _tensor(labels, f"{name}: labels")
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4:
        raise InputError(f"{name}: images have shape {tuple(images.shape)}, not (N, H, W, C) or (N, C, H, W)")
    if images.shape[1] not in (1, 3):
        if images.shape[3] not in (1, 3):
            raise InputError(f"{name}: images of shape {tuple(images.shape[1:])} have neither 1 nor 3 channels")
        images = images.permute(0, 3, 1, 2)
    if images.is_floating_point():
        low, high = images.aminmax() if len(images) else (torch.zeros(()), torch.zeros(()))
        if not (low >= 0 and high <= 1):
            raise InputError(f"{name}: float images range from {low:g} to {high:g}, outside [0, 1]")
        images = (images * 255).round()
    elif images.dtype != torch.uint8:
        raise InputError(f"{name}: images are {images.dtype}, not uint8 or float in [0, 1]")
    if labels.ndim == 2 and labels.shape[1] == 1:
        raise InputError(
            f"{name}: labels are a column of shape {tuple(labels.shape)}, not ({len(images)},): flatten them, as "
            "labels.ravel() does"
        )
    if labels.shape != images.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(
            f"{name}: {len(images)} images need as many integer labels, found {labels.dtype} {tuple(labels.shape)}"
        )
    if len(images) == 0:
        raise InputError(f"{name} is empty")
    labels = labels.to(torch.int64)
    if labels.min() < 0 or labels.max() >= num_classes:
        raise InputError(f"{name}: labels range from {labels.min()} to {labels.max()}, outside 0..{num_classes - 1}")
    return Split(images.to(torch.uint8).contiguous(), labels)


def _tensor(values: Any, name: str) -> Tensor:
    if not isinstance(values, np.ndarray):
        return torch.as_tensor(values)
    if values.dtype.kind not in "buif":
        raise InputError(f"{name} are of dtype {values.dtype}, which are no plain numbers")
    # Numbers of another machine's byte order are none to torch.
    plain = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    try:
        return torch.as_tensor(plain)
    except TypeError as error:
        raise InputError(f"{name} are of dtype {values.dtype}, which is not understood") from error


def read_arrays(path: Path, option: str = "--data") -> tuple[np.ndarray, np.ndarray]:
    """``images`` and ``labels`` of an ``.npz``, not validated yet; raises `InputError` if it is none."""
    arrays = read_npz(path, "no .npz file of plain arrays images and labels", option, names=("images", "labels"))
    return arrays["images"], arrays["labels"]


def hash_split(split: Split) -> list[str]:
    """:func:`hash_array` of images and of labels: what trains on a split, or is tested on it, depends on both."""
    return [hash_array(split.images.numpy()), hash_array(split.labels.numpy())]
