"""Where the images of a set come from, one row at a time."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poison_and_defend.core.hashing import checksum, hash_array
from poison_and_defend.images.pictures import (
    fit_square,
    to_array,
    to_picture,
)
from poison_and_defend.storage.listed import Listed

if TYPE_CHECKING:
    from poison_and_defend.storage.folder_source import FolderSource


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
    """A set to sanitize.

    Attributes:
        channels: Of its images.
    """

    channels: int

    def identify(self) -> dict[str, Any]:
        """What identifies the images, as a set's settings hold it."""

    def save(self, working: Path) -> Listed:
        """List the images once, for all processes."""

    def open(self, working: Path) -> int:
        """Use the list that one process saved; returns how many images it has."""

    def shape(self) -> tuple[int, ...] | None:
        """``(C, H, W)`` of what :meth:`read` gives, None where images keep their sizes."""

    def keep_apart(self, out: Path) -> None:
        """Refuse an output that would be read as input, or the other way round."""

    def folder(self) -> "FolderSource | None":
        """The folder whose files may change while they are read; None for what is in memory."""

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
        labels: ``(N,)`` int64, for a set that has them.
    """

    def __init__(
        self, images: Tensor, keys: Tensor, square: int | None = None, labels: NDArray[np.int64] | None = None
    ) -> None:
        self.images, self.keys, self.square, self.labels = images.numpy(), keys.numpy(), square, labels
        self.channels = int(images.shape[1])

    def shape(self) -> tuple[int, ...]:
        """``(C, H, W)`` of what :meth:`read` gives."""
        found = self.images.shape[1:]
        return found if self.square is None else (found[0], self.square, self.square)

    def identify(self) -> dict[str, Any]:
        """See :class:`Source`."""
        named = {"images": self.images, "rows": self.keys} | ({} if self.labels is None else {"labels": self.labels})
        return {name: hash_array(array) for name, array in named.items()}

    def save(self, working: Path) -> Listed:
        """Nothing is saved: every process has the array."""
        labels = np.zeros(len(self.images), np.int64) if self.labels is None else self.labels
        return Listed(len(self.images), self.identify(), lambda: labels, self.shape)

    def open(self, working: Path) -> int:
        """See :class:`Source`."""
        return len(self.images)

    def keep_apart(self, out: Path) -> None:
        """What is in memory lies nowhere."""

    def folder(self) -> None:
        """See :class:`Source`."""

    def read(self, row: int) -> Item:
        """See :class:`Source`."""
        pixels = np.ascontiguousarray(self.images[row])
        digest = checksum(pixels.data)
        if self.square is not None:
            pixels = to_array(fit_square(to_picture(pixels), self.square))
        return Item(row, int(self.keys[row]), "", pixels, "", digest)

    def raw(self, row: int) -> None:
        """See :class:`Source`."""


def stack(items: Iterable[Item]) -> Tensor:
    """``(n, C, H, W)`` uint8 from items of one shape."""
    return torch.from_numpy(np.stack([item.pixels for item in items if item.pixels is not None]))
