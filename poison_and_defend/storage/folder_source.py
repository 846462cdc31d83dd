"""Image files below a folder, as the source of a set."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.hashing import checksum
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
)
from poison_and_defend.storage.listed import Listed
from poison_and_defend.storage.sources import Item
from poison_and_defend.storage.targets.output_names import top_folder

# Not the file is at fault but the disk, and the next file will be no better.
_DISK = {errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENODEV, errno.ENXIO}


class FolderSource:
    """Image files below a folder; a row's number keys its noise.

    Their order is that of :func:`poison_and_defend.images.listing.iterate_images`.

    Args:
        root: The folder.
        channels: 3 for RGB, 1 for grey.
        square: Height and width to crop and scale to; None keeps each image's size.
        rules: How the folder is listed, and what links may do when its files are read.
        may_lose_colour: Whether a colour file may be read as grey.
        bits: How many bits of a 16-bit grey value are in use, 8 to 16.
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

    def identify(self) -> dict[str, Any]:
        """See :class:`Source`."""
        digest = hashlib.blake2b(digest_size=16)
        for name in self.list_names():
            digest.update(name.encode() + b"\0")
        return {"files": digest.hexdigest()}

    def save(self, working: Path) -> Listed:
        """See :class:`Source`; the names are in the order of rows."""
        digest, not_taken = hashlib.blake2b(digest_size=16), list[str]()

        def names() -> Iterator[str]:
            for name in self.list_names(not_taken.append):
                digest.update(name.encode() + b"\0")
                yield name

        count = write_names(working, "files", names())
        self.open(working)
        return Listed(
            count,
            {"files": digest.hexdigest()},
            lambda: self._labels(count),
            lambda: self.shape() or self._first_shape(count),
            named=True,
            not_taken=sorted(plain(name) for name in not_taken),
        )

    def open(self, working: Path) -> int:
        """See :class:`Source`."""
        self._names = Names(working, "files")
        return len(self._names)

    def names(self) -> Iterator[str]:
        """All names of the list that is open, in the order of rows."""
        assert self._names is not None
        return (self._names[row] for row in range(len(self._names)))

    def folder(self) -> "FolderSource":
        """See :class:`Source`."""
        return self

    def keep_apart(self, out: Path) -> None:
        """See :class:`Source`."""
        inside, place = self.root.resolve(), out.resolve()
        if self.chosen is not None:
            # Named one by one, images may lie beside the output but not in it.
            for name in self.chosen:
                if place in (inside / name).parents:
                    raise InputError(f"the input {plain(name)} lies in the output {out}: choose another place (--out)")
            return
        if place == inside or inside in place.parents:
            raise InputError(f"the output {out} lies in the input {self.root}: choose a place outside (--out)")
        if place in inside.parents:
            raise InputError(f"the input {self.root} lies in the output {out}: choose another place (--out)")

    def shape(self) -> tuple[int, ...] | None:
        """See :class:`Source`."""
        return None if self.square is None else (self.channels, self.square, self.square)

    def _first_shape(self, count: int) -> tuple[int, ...]:
        """That of the first image that can be read, of the first thousand."""
        for row in range(min(count, 1000)):
            pixels = self.read(row).pixels
            if pixels is not None:
                return pixels.shape
        raise InputError(f"none of the first images of {self.root} can be read ({self.rules.option})")

    def _labels(self, count: int) -> NDArray[np.int64]:
        """Number of each image's top folder, in order; 0 where images lie in none."""
        tops = [top_folder(self.name(row)) for row in range(count)]
        return np.unique(np.array(tops), return_inverse=True)[1].astype(np.int64)

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
