"""The public benchmark's poisons: three pickles per setup, and the same in one ``.npz`` for those who refuse pickles."""

import operator
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import save_arrays, write_bytes
from poison_and_defend.core.reading.arrays import Shape
from poison_and_defend.core.reading.arrays import read_npz as read_plain_npz
from poison_and_defend.core.reading.files import guarded
from poison_and_defend.core.reading.pickles import read_pickle

_MAX_BYTES = 1 << 32  # Of one setup's arrays.


@dataclass(frozen=True, eq=False)
class BenchmarkPoisons:
    """What an attacker hands to the public benchmark for one setup.

    Attributes:
        images: ``(k, C, H, W)`` uint8 with C 1 or 3, the poisons.
        label: The label of them all.
        base_indices: ``(k,)`` int64, the rows of the training split that they replace, in order.
        target: ``(C, H, W)`` uint8, the test image, without its patch.
        target_label: Its true class.
        patch: ``(C, P, P)`` float32 in [0, 1], which the benchmark lays over the target before it is tested; or None.
        location: ``(x, y)``, column and row of the patch's upper left corner; None without a patch.

    Raises:
        InputError: If shapes, dtypes or counts disagree, or the patch leaves the target.
    """

    images: Tensor
    label: int
    base_indices: NDArray[np.int64]
    target: Tensor
    target_label: int
    patch: NDArray[np.float32] | None = None
    location: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        shape, indices = tuple(self.images.shape), self.base_indices
        if self.images.dtype != torch.uint8 or len(shape) != 4 or shape[1] not in (1, 3) or 0 in shape:
            raise InputError(f"the poisons are {self.images.dtype} of shape {shape}, not uint8 (k, 1 or 3, H, W)")
        if self.target.dtype != torch.uint8 or self.target.shape != shape[1:]:
            raise InputError(
                f"the target is {self.target.dtype} of shape {tuple(self.target.shape)}, the poisons are of shape {shape[1:]}"
            )
        if indices.dtype != np.int64 or indices.shape != (shape[0],):
            raise InputError(
                f"{shape[0]} poisons need as many int64 base indices, not {indices.dtype} of shape {indices.shape}"
            )
        if indices.min() < 0 or not all(0 <= label < 1 << 63 for label in (self.label, self.target_label)):
            raise InputError("a base index or a label is below 0 or has more than 63 bits")
        if (self.patch is None) != (self.location is None):
            raise InputError("a patch needs a location, and a location a patch")
        if self.patch is not None and self.location is not None:
            self._check_patch(self.patch, self.location)

    def _check_patch(self, patch: NDArray[np.float32], location: tuple[int, int]) -> None:
        channels, height, width = self.target.shape
        if patch.dtype != np.float32 or patch.size == 0 or patch.shape != (channels, *patch.shape[-1:] * 2):
            raise InputError(f"the patch is {patch.dtype} of shape {patch.shape}, not float32 ({channels}, P, P)")
        if not (patch.min() >= 0 and patch.max() <= 1):  # not NaN either
            raise InputError("a value of the patch is outside [0, 1]")
        size, (x, y) = patch.shape[-1], location
        if not (0 <= x <= width - size and 0 <= y <= height - size):
            raise InputError(f"the patch of {size} x {size} at x {x}, y {y} leaves the target of {width} x {height}")


def read_benchmark(folder: Path, option: str = "--folder") -> BenchmarkPoisons:
    """Read ``poisons.pickle``, ``base_indices.pickle`` and ``target.pickle`` without running what is in them.

    Args:
        folder: Where the three lie.
        option: What the user should change if they are bad.

    Raises:
        InputError: If a file is missing or hostile, or they do not describe one setup.
    """
    read = [read_pickle(folder / f"{name}.pickle", option) for name in ("poisons", "base_indices", "target")]
    try:
        pairs, indices, target = read
        if type(pairs) not in (list, tuple) or type(target) not in (list, tuple) or len(target) not in (2, 4):
            raise InputError("needs a list of (image, label) and a target of 2 or 4 parts")
        images = [_from_pil(image) for image, _ in pairs]
        if len({image.shape for image in images}) != 1:
            raise InputError(f"needs poisons of one size and mode, not {len({image.shape for image in images})} of them")
        patch, location = target[2:] or (None, None)
        return BenchmarkPoisons(
            images=torch.stack(images),
            label=_one_label([operator.index(label) for _, label in pairs]),
            base_indices=_integers(indices),
            target=_from_pil(target[0]),
            target_label=operator.index(target[1]),
            patch=None if patch is None else np.array(patch, np.float32),
            location=None if location is None else _point(location),
        )
    except InputError as error:
        raise InputError(f"{folder}: {error} ({option})") from error
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{folder} does not hold poisons as the public benchmark writes them ({option})") from error


def write_benchmark(folder: Path, value: BenchmarkPoisons) -> None:
    """Write the three pickles, which the public benchmark reads as its own, into a folder that exists."""
    target: tuple[Any, ...] = (_to_pil(value.target), int(value.target_label))
    if value.patch is not None and value.location is not None:
        target += (torch.from_numpy(value.patch.copy()), [int(part) for part in value.location])
    contents = {
        "poisons": [(_to_pil(image), int(value.label)) for image in value.images],
        "base_indices": value.base_indices.tolist(),
        "target": target,
    }
    for name, content in contents.items():
        write_bytes(folder / f"{name}.pickle", pickle.dumps(content, protocol=4))


def write_npz(path: Path, value: BenchmarkPoisons) -> None:
    """Write arrays of the benchmark's names and order, so images with channels last, that numpy reads without pickle."""
    arrays: dict[str, Any] = {
        "poisons": value.images.permute(0, 2, 3, 1).contiguous().numpy(),
        "labels": np.full(len(value.images), value.label, np.int64),
        "base_indices": value.base_indices,
        "target": value.target.permute(1, 2, 0).contiguous().numpy(),
        "target_label": np.int64(value.target_label),
    }
    if value.patch is not None and value.location is not None:
        arrays |= {"patch": value.patch, "location": np.array(value.location, np.int64)}
    save_arrays(path, arrays)


def read_npz(path: Path, option: str = "--file") -> BenchmarkPoisons:
    """Read what :func:`write_npz` writes.

    Args:
        path: The ``.npz`` file.
        option: What the user should change if it is bad.

    Raises:
        InputError: If the file cannot be read or does not describe one setup.
    """
    needed: dict[str, Shape] = {"poisons": [None] * 4, "labels": [None], "base_indices": [None]}
    needed |= {"target": [None] * 3, "target_label": []}
    shapes: dict[str, Shape] = needed | {"patch": [None] * 3, "location": [2]}
    what = "no .npz of poisons"
    arrays = read_plain_npz(path, what, option, shapes=shapes, limit=_MAX_BYTES)
    try:
        with guarded(path, what, option):
            if lacking := [name for name in needed if name not in arrays]:
                raise ValueError(f"it has no array {lacking[0]}")
            return BenchmarkPoisons(
                images=torch.from_numpy(np.moveaxis(arrays["poisons"], 3, 1).copy()),
                label=_one_label(_integers(arrays["labels"]).tolist()),
                base_indices=_integers(arrays["base_indices"]),
                target=torch.from_numpy(np.moveaxis(arrays["target"], 2, 0).copy()),
                target_label=operator.index(arrays["target_label"]),
                patch=np.array(arrays["patch"], np.float32) if "patch" in arrays else None,
                location=_point(arrays["location"]) if "location" in arrays else None,
            )
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error} ({option})") from error


def _from_pil(image: Any) -> Tensor:
    if not isinstance(image, Image.Image):
        raise InputError("needs an image before every label")
    pixels = np.array(image)
    return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())


def _to_pil(image: Tensor) -> Image.Image:
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _one_label(labels: list[int]) -> int:
    if len(set(labels)) != 1:
        raise InputError(f"needs poisons of one label, not of {len(set(labels))}")
    return labels[0]


def _integers(values: Any) -> NDArray[np.int64]:
    return np.array([operator.index(value) for value in values], np.int64)


def _point(values: Any) -> tuple[int, int]:
    x, y = (operator.index(value) for value in values)
    return x, y
