"""Sanitized images and labels as one ``.npz`` file."""

import io
import json
import os
import secrets
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from errors import InputError
from storage.array_target import IMAGES, ArrayTarget
from storage.records import RowRecord, parse_records, read_records
from storage.targets import MANIFEST, ROWS

LABELS = "labels.npy"
_BLOCK = 1 << 24


class NpzTarget(ArrayTarget):
    """``images`` ``(N, C, H, W)`` uint8 and ``labels`` ``(N,)`` int64, with ``rows.csv`` and ``manifest.json`` beside them.

    Images that were skipped are in neither array; ``rows.csv`` says which. The file is not compressed, and made at the end
    from an array beside it.

    Args:
        path: The file.
        shape: See :class:`ArrayTarget`.
        labels: ``(N,)`` int64; likewise.
        option: What the user should change if the file cannot be written.
    """

    def __init__(self, path: Path, shape: tuple[int, ...] | None, labels: NDArray[np.int64] | None, option: str) -> None:
        super().__init__(path.parent, shape, option)
        self.place, self.labels = path, labels
        self.working = npz_working(path)

    def manifest(self) -> dict[str, Any] | None:
        """See :class:`~storage.targets.Target`."""
        return read_npz_manifest(self.place, self.option)

    def prepare(self, partial: Path, rows: int) -> None:
        """Reserve the array, and keep the labels."""
        assert self.labels is not None
        super().prepare(partial, rows)
        np.save(partial / LABELS, self.labels, allow_pickle=False)

    def publish(self, rows: Path, manifest: dict[str, Any]) -> None:
        """Copy what was not skipped into the file, piece by piece."""
        labels: NDArray[np.int64] = np.load(self.working / LABELS, allow_pickle=False)
        kept = np.array([record.status == "sanitized" for record in read_records(rows)], bool)
        images: NDArray[np.uint8] = np.load(self.working / IMAGES, mmap_mode="r", allow_pickle=False)
        partial = self.place.with_name(f".{self.place.name}.{secrets.token_hex(4)}.partial")
        try:
            with open(partial, "wb") as file:
                with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                    with archive.open(IMAGES, "w", force_zip64=True) as member:
                        _write_rows(cast(BinaryIO, member), images, kept)
                    with archive.open(LABELS, "w") as member:
                        np.lib.format.write_array(member, labels[kept], allow_pickle=False)
                    archive.write(rows, ROWS)
                    archive.writestr(MANIFEST, json.dumps(manifest, indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.place)
        finally:
            partial.unlink(missing_ok=True)


def npz_working(path: Path) -> Path:
    """The working folder beside a file that is being made."""
    return path.with_name(f".{path.name}.unfinished")


def read_npz_records(path: Path) -> Iterator[RowRecord]:
    """The lines of the ``rows.csv`` in a finished file, one by one."""
    with zipfile.ZipFile(path) as archive, archive.open(ROWS) as member:
        yield from parse_records(io.TextIOWrapper(member, "utf-8", newline=""), f"{path}: {ROWS}")


def read_npz_manifest(path: Path, option: str) -> dict[str, Any] | None:
    """Manifest of a finished ``.npz``, None if there is no file.

    Raises:
        InputError: If the file was not written by :class:`NpzTarget`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            manifest: dict[str, Any] = json.loads(archive.read(MANIFEST))
            manifest["settings"], manifest["rows"], manifest["count"]
            return manifest
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a sanitized set: choose another, or remove it ({option})") from error


def _write_rows(file: BinaryIO, images: NDArray[np.uint8], kept: NDArray[np.bool_]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (int(kept.sum()), *images.shape[1:])}
    np.lib.format.write_array_header_1_0(file, header)
    step = max(1, _BLOCK // max(1, int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), step):
        file.write(images[start : start + step][kept[start : start + step]].tobytes())
