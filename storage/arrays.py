"""A set of images as arrays, and the ``.npz`` files that hold one."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from errors import InputError


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


def make_split(images: Any, labels: Any, num_classes: int, name: str) -> Split:
    """Validate and convert what a source delivered.

    Args:
        images: uint8, or float in [0, 1]; NCHW, NHWC or NHW, as an array or a tensor.
        labels: Integers, ``(N,)``.

    Raises:
        InputError: If a shape, a dtype or a value is out of range; the message starts with ``name``.
    """
    images = torch.as_tensor(np.ascontiguousarray(images) if isinstance(images, np.ndarray) else images)
    labels = torch.as_tensor(np.ascontiguousarray(labels) if isinstance(labels, np.ndarray) else labels)
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


def read_arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """``images`` and ``labels`` of an ``.npz``, not validated yet; raises `InputError` if it is none."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = {"images", "labels"} - set(archive.files)
            if missing:
                raise InputError(
                    f"{path} has no array named {' or '.join(sorted(missing))}, only {sorted(archive.files)} (--data)"
                )
            return archive["images"], archive["labels"]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error} (--data)") from error
    # A truncated archive, a bare .npy (which has no `files`), or arrays of Python objects.
    except (ValueError, zipfile.BadZipFile, AttributeError, EOFError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not an .npz file of plain arrays: {error} (--data)") from error
