"""Sanitized rows of one shape in one array file, which all processes fill at once."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import sweep_partials, write_bytes
from poison_and_defend.core.hashing import checksum, checksum_file
from poison_and_defend.core.reading.arrays import read_header
from poison_and_defend.core.reading.files import guarded, open_regular
from poison_and_defend.images.set_files import IMAGES, MANIFEST, ROWS, WORKING
from poison_and_defend.storage.listed import Listed
from poison_and_defend.storage.records import RowRecord, read_records
from poison_and_defend.storage.targets.base import manifest_bytes, read_manifest


class ArrayTarget:
    """A folder with ``images.npy`` ``(N, C, H, W)`` uint8, ``rows.csv`` and ``manifest.json``.

    The file is written with `pwrite`, not mapped: maps of one file on two machines may lose each other's pages on NFS, and a
    full disk kills a process that writes to a map instead of telling it.

    Args:
        folder: Where it goes.
        shape: ``(C, H, W)`` of an image; None on processes that :meth:`open` what another prepared.
        option: What the user should change if the folder cannot be used.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...] | None, option: str) -> None:
        self.place, self.shape, self.option = folder, shape, option
        self.working, self.lost = folder / WORKING, "have no row"
        self._file = -1
        self._start = 0

    def manifest(self) -> dict[str, Any] | None:
        """See :class:`~poison_and_defend.storage.targets.base.Target`."""
        return read_manifest(self.place, self.option)

    def settings(self) -> dict[str, Any]:
        """See :class:`~poison_and_defend.storage.targets.base.Target`."""
        return {}

    def size(self, pixels: NDArray[np.uint8]) -> int:
        """The array is reserved already; its copy in an ``.npz`` is not."""
        return pixels.nbytes

    def records(self) -> Iterator[RowRecord]:
        """See :class:`~poison_and_defend.storage.targets.base.Target`."""
        return read_records(self.place / ROWS)

    def prepare(self, partial: Path, listed: Listed) -> None:
        """Reserve the whole array, so that a disk that is too small is known now."""
        rows, self.shape = listed.count, self.shape or listed.shape()
        with open(partial / IMAGES, "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (rows, *self.shape)})
            file.flush()
            size = int(np.prod(self.shape)) * rows
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), file.tell(), size)
            else:
                os.truncate(file.fileno(), file.tell() + size)

    def open(self) -> None:
        """See :class:`~poison_and_defend.storage.targets.base.Target`."""
        path = self.working / IMAGES
        what = "not the array that was begun; remove the set in the making and begin again"
        with guarded(path, what, self.option, absent=True):
            with open(open_regular(path), "rb") as file:
                shape, dtype, fortran = read_header(file, path.stat().st_size)
                self._start = file.tell()
            if dtype != np.uint8 or fortran or len(shape) != 4:
                raise ValueError(f"it holds {dtype} of shape {shape}")
            self.shape = shape[1:]
            self._file = os.open(path, os.O_RDWR)

    def close(self) -> None:
        """Give the file back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def write(self, row: int, pixels: NDArray[np.uint8]) -> tuple[str, str]:
        """See :class:`~poison_and_defend.storage.targets.base.Target`.

        Raises:
            InputError: If the image has another shape.
        """
        if self.shape is None or pixels.shape != self.shape:
            raise InputError(
                f"image {row} is {_text(pixels.shape)} and the first {_text(self.shape)}: an array holds images of one size; "
                f"scale them (--large resize), or write a folder ({self.option})"
            )
        content = np.ascontiguousarray(pixels).data.cast("B")
        offset, left = self._start + row * len(content), content
        while left:
            written = os.pwrite(self._file, left, offset)
            left, offset = left[written:], offset + written
        return "", checksum(content)

    def copy(self, row: int, raw: bytes | None) -> tuple[str, str]:
        """Raises RuntimeError: an array has no place for what is no image, and whoever asks was to be refused before."""
        raise RuntimeError("an array cannot hold a copy of a file")

    def sync(self) -> None:
        """See :class:`~poison_and_defend.storage.targets.base.Target`."""
        os.fsync(self._file)

    def publish(self, rows: Path, manifest: dict[str, Any]) -> None:
        """See :class:`~poison_and_defend.storage.targets.base.Target`."""
        # Moved already if a process was killed right here.
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.working / IMAGES, self.place / IMAGES)
        os.replace(rows, self.place / ROWS)
        manifest["images"] = checksum_file(self.place / IMAGES)
        write_bytes(self.place / MANIFEST, manifest_bytes(manifest))
        self.tidy()

    def tidy(self) -> None:
        """See :class:`~poison_and_defend.storage.targets.base.Target`."""
        sweep_partials(self.place)


def _text(shape: tuple[int, ...] | None) -> str:
    return "unknown" if shape is None else " x ".join(map(str, shape))
