"""Where the images of a set come from, one row at a time."""

import errno
import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from errors import InputError
from storage.decode import UnreadableImageError, fit_square, open_image, to_array
from storage.hashing import checksum, hash_array
from storage.listing import iterate_images
from storage.names import Names, write_names

# Not the file is at fault but the disk, and the next file will be no better.
_DISK = {errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENODEV, errno.ENXIO}


@dataclass(frozen=True, eq=False)
class Item:
    """One image as it was found.

    Attributes:
        row: Its number in the set.
        key: Number that keys its noise.
        file: Its path below the input; empty for an array's row.
        pixels: ``(C, H, W)`` uint8, or None if it cannot be decoded.
        note: Why it cannot be, or what the pixels do not show of the file.
        source: Checksum of its bytes, empty if they could not be read.
    """

    row: int
    key: int
    file: str
    pixels: NDArray[np.uint8] | None
    note: str
    source: str


class Source(Protocol):
    """A set to sanitize, already listed."""

    def read(self, row: int) -> Item:
        """Read and decode one image; called from several threads at once."""

    def raw(self, row: int) -> bytes | None:
        """The bytes of an image's file, None for a row of an array."""


class ArraySource:
    """Rows of an array.

    Args:
        images: ``(N, C, H, W)`` uint8, possibly memory-mapped.
        keys: ``(N,)`` int64: the number that keys each image's noise.
    """

    def __init__(self, images: Tensor, keys: Tensor) -> None:
        self.images, self.keys = images.numpy(), keys.numpy()

    def settings(self) -> dict[str, str]:
        """What identifies the images."""
        return {"images": hash_array(self.images), "rows": hash_array(self.keys)}

    def read(self, row: int) -> Item:
        """See :class:`Source`."""
        pixels = self.images[row]
        return Item(row, int(self.keys[row]), "", pixels, "", checksum(np.ascontiguousarray(pixels).data))

    def raw(self, row: int) -> None:
        """See :class:`Source`."""


class FolderSource:
    """Image files below a folder, in the order of :func:`storage.listing.iterate_images`; a row's number keys its noise.

    Args:
        root: The folder.
        channels: 3 for RGB, 1 for grey.
        square: Height and width to crop and scale to; None keeps each image's size.
        option: What the user should change if the folder cannot be used.
    """

    def __init__(self, root: Path, channels: int, square: int | None, option: str) -> None:
        self.root, self.channels, self.square, self.option = root, channels, square, option
        self._names: Names | None = None

    def list_names(self) -> Iterator[str]:
        """Paths below the folder, which must be at least one.

        Raises:
            InputError: If there is none, or the folder cannot be used.
        """
        empty = True
        for name in iterate_images(self.root, self.option):
            empty = False
            yield name
        if empty:
            raise InputError(f"{self.root} holds no JPEG, PNG or WebP images ({self.option})")

    def digest_names(self) -> str:
        """What identifies the list of images."""
        return _digest(self.list_names())

    def save_names(self, folder: Path) -> tuple[int, str]:
        """List once, for all processes; returns the number of images and their list's digest."""
        count = write_names(folder, "files", self.list_names())
        return count, _digest(iter(_all(Names(folder, "files"))))

    def open_names(self, folder: Path) -> Names:
        """Use the list that one process saved."""
        self._names = Names(folder, "files")
        return self._names

    def name(self, row: int) -> str:
        """An image's path below the folder."""
        assert self._names is not None
        return self._names[row]

    def read(self, row: int) -> Item:
        """See :class:`Source`.

        Raises:
            InputError: If the disk does not answer.
        """
        name = self.name(row)
        try:
            content = (self.root / name).read_bytes()
        except OSError as error:
            if error.errno in _DISK:
                raise InputError(f"cannot read {self.root / name}: {error.strerror} ({self.option})") from error
            return Item(row, row, name, None, str(error.strerror), "")
        digest = checksum(content)
        try:
            picture, note = open_image(io.BytesIO(content), self.channels)
        except UnreadableImageError as error:
            return Item(row, row, name, None, str(error), digest)
        if self.square is not None:
            picture = fit_square(picture, self.square)
        return Item(row, row, name, to_array(picture), note, digest)

    def raw(self, row: int) -> bytes | None:
        """See :class:`Source`."""
        try:
            return (self.root / self.name(row)).read_bytes()
        except OSError:
            return None


def stack(items: Iterable[Item]) -> Tensor:
    """``(n, C, H, W)`` uint8 from items of one shape."""
    return torch.from_numpy(np.stack([item.pixels for item in items if item.pixels is not None]))


def _all(names: Names) -> Iterator[str]:
    return (names[row] for row in range(len(names)))


def _digest(names: Iterator[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in names:
        digest.update(name.encode() + b"\0")
    return digest.hexdigest()
