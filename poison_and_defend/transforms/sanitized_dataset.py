"""A data set of torch whose images all went through the sanitizer once, before anything is trained on it."""

import hashlib
import operator
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import beside, digest, make_folder
from poison_and_defend.core.noise_secret import share_secret
from poison_and_defend.transforms.image_forms import ImageForm, to_bytes
from poison_and_defend.transforms.item_parts import join_item, split_item
from poison_and_defend.transforms.pixel_file import PixelFile
from poison_and_defend.transforms.sanitizer import DiffusionSanitizer

_CHANGING = "take random transforms out of it and pass them as transform, which comes after (dataset)"


class SanitizedDataset(Dataset[Any]):
    """Wraps a map-style data set; items are as they were, but for their images' pixels. Rows are indices.

    The wrapped set is read twice from beginning to end when this is built, once for its labels and a digest and once to
    sanitize, and never again: neither it nor the model is kept, so that workers of a DataLoader, forked or spawned, decode
    and denoise nothing. Its transforms are thereby applied once and must give the same image every time; random ones
    belong into ``transform``. Without ``folder`` spawned workers get a copy of the pixels each.

    Args:
        dataset: Has ``len`` and indices; its items are an image, or a tuple, list or dict with one. Images are what
            :func:`poison_and_defend.transforms.image_forms.to_bytes` takes, ``(C, H, W)`` if tensors, of any sizes.
        sanitizer: What they go through.
        transform: Applied to the sanitized image of an item each time it is asked for, such as augmentation, ``ToImage``
            and ``Normalize``.
        image_key: Where an item's image is: its place in a tuple or list (of a dict: ``image`` or ``pixel_values``), or
            its key in a dict.
        folder: Where to keep the pixels, memory-mapped, in a file named after all images and the sanitizer's settings,
            which is read instead if it is there. None keeps them in memory. A secret seed is kept in a private file beside the
            folder, so that all processes have one; without a folder they have if `torch.distributed` is initialized before.
        progress: Called with the number of images that are sanitized and of all after every batch.

    Raises:
        InputError: If the set is empty or has no length, holds anything else than images there, or gives other
            images when read again; if the folder cannot be written.
    """

    def __init__(
        self,
        dataset: Any,
        sanitizer: DiffusionSanitizer,
        transform: Callable[[Any], Any] | None = None,
        image_key: int | str = 0,
        folder: str | Path | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise InputError(f"a {type(dataset).__name__} has no length or no indices: it must be map-style (dataset)")
        if len(dataset) == 0:
            raise InputError("the data set is empty (dataset)")
        self.transform = transform
        self._rests: list[Any] = []
        self._places: list[int | str | None] = []
        self._forms: list[ImageForm] = []
        shapes: list[tuple[int, ...]] = []
        # Equal forms are one object, which is pickled once for all items.
        forms: dict[ImageForm, ImageForm] = {}
        content = hashlib.sha256()
        for index in range(len(dataset)):
            image, rest, place = split_item(dataset[index], image_key)
            pixels, form = _one(image, index)
            self._rests.append(rest)
            self._places.append(place)
            self._forms.append(forms.setdefault(form, form))
            shapes.append(tuple(pixels.shape))
            _update(content, pixels)
        self._shapes: NDArray[np.int64] = np.array(shapes, np.int64)
        self._starts: NDArray[np.int64] = np.cumsum([0, *self._shapes.prod(1)])

        size_of_tiles = None if sanitizer.size is None else list(sanitizer.size)
        name = digest({"images": content.hexdigest(), "size": size_of_tiles} | sanitizer.settings())

        def fill(array: NDArray[np.uint8]) -> None:
            own = _agreed(sanitizer, None if folder is None else beside(Path(folder).absolute(), f"noise-{name}.json"))
            self._fill(array, dataset, own, image_key, content.hexdigest(), progress)

        size = int(self._starts[-1])
        self._file: PixelFile | None = None
        if folder is None:
            self._pixels: NDArray[np.uint8] = np.empty(size, np.uint8)
            fill(self._pixels)
            return
        make_folder(Path(folder), "folder")
        self._file = PixelFile(Path(folder) / f"sanitized-{name}.npy")
        self._pixels = self._file.read_or_make(size, fill)

    def _fill(
        self,
        array: NDArray[np.uint8],
        dataset: Any,
        sanitizer: DiffusionSanitizer,
        image_key: int | str,
        expected: str,
        progress: Callable[[int, int], None],
    ) -> None:
        """Sanitize all images into one flat array; images of a batch that have one shape go together."""
        content = hashlib.sha256()
        for start in range(0, len(self), sanitizer.batch_size):
            stop = min(start + sanitizer.batch_size, len(self))
            images: dict[int, Tensor] = {}
            by_shape: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
            for index in range(start, stop):
                images[index] = _one(split_item(dataset[index], image_key)[0], index)[0]
                _update(content, images[index])
                if tuple(images[index].shape) != tuple(self._shapes[index]):
                    raise InputError(f"image {index} has another shape when it is read again: {_CHANGING}")
                by_shape[tuple(images[index].shape)].append(index)
            for rows in by_shape.values():
                sanitized = sanitizer(torch.stack([images[row] for row in rows]), rows=rows)
                for row, image in zip(rows, sanitized.cpu().numpy(), strict=True):
                    array[self._starts[row] : self._starts[row + 1]] = image.reshape(-1)
            progress(stop, len(self))
        if content.hexdigest() != expected:
            raise InputError(f"the data set gives other images when it is read again: {_CHANGING}")

    def __len__(self) -> int:
        return len(self._forms)

    def __getitem__(self, index: int) -> Any:
        number = range(len(self))[operator.index(index)]
        flat = self._pixels[self._starts[number] : self._starts[number + 1]]
        # A copy: a transform that works in place must not reach what is kept.
        image = self._forms[number].restore(torch.from_numpy(np.array(flat)).reshape(*self._shapes[number].tolist()))
        if self.transform is not None:
            image = self.transform(image)
        return join_item(self._rests[number], self._places[number], image)

    def __getstate__(self) -> dict[str, Any]:
        # numpy would pickle the content of a memory map, not its place.
        return self.__dict__ | ({} if self._file is None else {"_pixels": None})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._file is not None:
            self._pixels = self._file.open()


def _agreed(sanitizer: DiffusionSanitizer, path: Path | None) -> DiffusionSanitizer:
    """A sanitizer whose secret is that of all processes that build the same set; one with a given seed is as it is."""
    if sanitizer.secret is None:
        return sanitizer
    if path is not None:
        return sanitizer.with_secret(share_secret(path, sanitizer.secret, "folder"))
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        secrets = [sanitizer.secret]
        torch.distributed.broadcast_object_list(secrets, 0)
        return sanitizer.with_secret(secrets[0])
    return sanitizer


def _one(image: Any, index: int) -> tuple[Tensor, ImageForm]:
    try:
        pixels, form = to_bytes(image)
    except InputError as error:
        raise InputError(f"item {index}: {error}") from error
    if pixels.ndim != 3:
        raise InputError(f"item {index} has an image of shape {tuple(pixels.shape)}: it must be (C, H, W) (dataset)")
    return pixels.cpu(), form


def _update(content: Any, pixels: Tensor) -> None:
    content.update(str(tuple(pixels.shape)).encode())
    content.update(pixels.contiguous().numpy().tobytes())
