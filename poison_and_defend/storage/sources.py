"""Where the images of a set come from, one row at a time."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.hashing import checksum, hash_array
from poison_and_defend.core.reading.files import plain, read_regular
from poison_and_defend.images.listing import Rules, iterate_images
from poison_and_defend.images.names import Names, write_names
from poison_and_defend.images.pictures import (
    MAX_FILE_BYTES,
    NAMES,
    UnreadableImageError,
    fit_square,
    open_image,
    to_array,
    to_picture,
)

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
        square: Height and width to crop and scale to; None keeps the images' size.
    """

    def __init__(self, images: Tensor, keys: Tensor, square: int | None = None) -> None:
        self.images, self.keys, self.square = images.numpy(), keys.numpy(), square
        self.channels = int(images.shape[1])

    def shape(self) -> tuple[int, ...]:
        """``(C, H, W)`` of what :meth:`read` gives."""
        found = self.images.shape[1:]
        return found if self.square is None else (found[0], self.square, self.square)

    def settings(self) -> dict[str, str]:
        """What identifies the images."""
        return {"images": hash_array(self.images), "rows": hash_array(self.keys)}

    def read(self, row: int) -> Item:
        """See :class:`Source`."""
        pixels = np.ascontiguousarray(self.images[row])
        digest = checksum(pixels.data)
        if self.square is not None:
            pixels = to_array(fit_square(to_picture(pixels), self.square))
        return Item(row, int(self.keys[row]), "", pixels, "", digest)

    def raw(self, row: int) -> None:
        """See :class:`Source`."""


class FolderSource:
    """Image files below a folder; a row's number keys its noise.

    Their order is that of :func:`poison_and_defend.images.listing.iterate_images`.

    Args:
        root: The folder.
        channels: 3 for RGB, 1 for grey.
        square: Height and width to crop and scale to; None keeps each image's size.
        rules: How the folder is listed, and what links may do when its files are read.
        may_lose_colour: Whether a colour file may be read as grey.
        bits: See :func:`poison_and_defend.images.pictures.open_image`.
        chosen: Paths below the folder of the images that are meant, in that order; None for all.
    """

    def __init__(
        self,
        root: Path,
        channels: int,
        square: int | None,
        rules: Rules,
        *,
        may_lose_colour: bool = False,
        bits: int = 16,
        chosen: list[str] | None = None,
    ) -> None:
        self.root, self.channels, self.square, self.rules = root, channels, square, rules
        self.may_lose_colour, self.bits, self.chosen = may_lose_colour, bits, chosen
        self._real_root = os.path.realpath(root)
        self._names: Names | None = None

    def list_names(self, passed: Callable[[str], None] = lambda name: None) -> Iterator[str]:
        """Paths below the folder, which must be at least one.

        Args:
            passed: Called with every file that is not taken.

        Raises:
            InputError: If there is none, or the folder cannot be used.
        """
        empty = True
        rules = replace(self.rules, passed=passed)
        for name in iterate_images(self.root, rules) if self.chosen is None else self.chosen:
            empty = False
            yield name
        if empty:
            raise InputError(f"{self.root} holds no {NAMES} images ({self.rules.option})")

    def digest_names(self) -> str:
        """What identifies the list of images."""
        digest = hashlib.blake2b(digest_size=16)
        for name in self.list_names():
            digest.update(name.encode() + b"\0")
        return digest.hexdigest()

    def save_names(self, folder: Path) -> tuple[int, str, list[str]]:
        """List once, for all processes.

        Returns:
            The number of images, their list's digest, and the names of what is not taken, in order.
        """
        digest, not_taken = hashlib.blake2b(digest_size=16), list[str]()

        def names() -> Iterator[str]:
            for name in self.list_names(not_taken.append):
                digest.update(name.encode() + b"\0")
                yield name

        count = write_names(folder, "files", names())
        return count, digest.hexdigest(), sorted(plain(name) for name in not_taken)

    def open_names(self, folder: Path) -> Names:
        """Use the list that one process saved."""
        self._names = Names(folder, "files")
        return self._names

    def shape(self) -> tuple[int, ...] | None:
        """``(C, H, W)`` of what :meth:`read` gives, None where images keep their sizes."""
        return None if self.square is None else (self.channels, self.square, self.square)

    def first_shape(self, count: int) -> tuple[int, ...]:
        """``(C, H, W)`` of the first image that can be read.

        Raises:
            InputError: If none of the first thousand can.
        """
        for row in range(min(count, 1000)):
            pixels = self.read(row).pixels
            if pixels is not None:
                return pixels.shape
        raise InputError(f"none of the first images of {self.root} can be read ({self.rules.option})")

    def name(self, row: int) -> str:
        """An image's path below the folder."""
        assert self._names is not None
        return self._names[row]

    def read(self, row: int) -> Item:
        """See :class:`Source`.

        Raises:
            InputError: If the disk does not answer, a link leads out of the root, or the denoiser takes grey images and this
                is none.
        """
        return self.read_file(row, self.name(row))

    def read_file(self, row: int, name: str) -> Item:
        """Like :meth:`read`, for whoever knows the image's path below the folder."""
        try:
            content = self.content(name)
        except OSError as error:
            if error.errno in _DISK:
                raise InputError(f"cannot read {plain(self.root / name)}: {error.strerror} ({self.rules.option})") from error
            return Item(row, row, name, None, str(error.strerror), "")
        digest = checksum(content)
        try:
            picture, note = open_image(content, self.channels, bits=self.bits)
        except UnreadableImageError as error:
            return Item(row, row, name, None, str(error), digest)
        if "colour" in note.split() and not self.may_lose_colour:
            raise InputError(
                f"{plain(self.root / name)} is a colour image and the denoiser takes grey ones: choose another denoiser "
                "(--denoiser), or let images become grey (--data.channels 1)"
            )
        if self.square is not None:
            picture = fit_square(picture, self.square)
        # A picture's own memory cannot be written to, of which torch warns.
        return Item(row, row, name, np.array(to_array(picture)), note, digest)

    def content(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            OSError: If it cannot be read, is no regular file, or larger than images are.
            InputError: If it is a link that leads out of the root, unless that is allowed.
        """
        # Not a Path, which costs as much as reading a small file.
        path = f"{self.root}/{name}"
        try:
            return read_regular(path, MAX_FILE_BYTES, follow=False)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
        self.rules.check_link(self._real_root, path)
        return read_regular(path, MAX_FILE_BYTES)

    def raw(self, row: int) -> bytes | None:
        """See :class:`Source`."""
        try:
            return self.content(self.name(row))
        except OSError:
            return None


def stack(items: Iterable[Item]) -> Tensor:
    """``(n, C, H, W)`` uint8 from items of one shape."""
    return torch.from_numpy(np.stack([item.pixels for item in items if item.pixels is not None]))
