"""Sanitized images and labels as one ``.npz`` file."""

import io
import os
import secrets
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import ZIP_TIME, beside
from poison_and_defend.core.hashing import checksum
from poison_and_defend.core.reading.arrays import read_array
from poison_and_defend.core.reading.files import MAX_TEXT, guarded, open_regular, parse_json, plain
from poison_and_defend.images.names import Names
from poison_and_defend.images.set_files import IMAGES, MANIFEST, ROWS
from poison_and_defend.storage.listed import Listed
from poison_and_defend.storage.records import RowRecord, parse_records, read_records
from poison_and_defend.storage.targets.array_target import ArrayTarget
from poison_and_defend.storage.targets.base import check_manifest, manifest_bytes
from poison_and_defend.storage.targets.output_names import top_folder

LABELS = "labels.npy"
_PARTIAL = ".partial"
_BLOCK = 1 << 24


class NpzTarget(ArrayTarget):
    """``images`` ``(N, C, H, W)`` uint8 and ``labels`` ``(N,)`` int64, with ``rows.csv`` and ``manifest.json`` beside them.

    Images that were skipped are in neither array; ``rows.csv`` says which. The file is not compressed, and made at the end
    from an array beside it.

    Args:
        path: The file.
        option: What the user should change if the file cannot be written.
    """

    def __init__(self, path: Path, option: str) -> None:
        super().__init__(path.parent, None, option)
        self.place = path
        self.working = npz_working(path)

    def manifest(self) -> dict[str, Any] | None:
        """See :class:`~poison_and_defend.storage.targets.base.Target`."""
        return read_npz_manifest(self.place, self.option)

    def records(self) -> Iterator[RowRecord]:
        """See :class:`~poison_and_defend.storage.targets.base.Target`."""
        return read_npz_records(self.place)

    def prepare(self, partial: Path, listed: Listed) -> None:
        """Reserve the array, and keep the labels."""
        super().prepare(partial, listed)
        np.save(partial / LABELS, listed.labels(), allow_pickle=False)

    def publish(self, rows: Path, manifest: dict[str, Any]) -> None:
        """Copy what was not skipped into the file, piece by piece."""
        what = "not the array that was begun; remove the set in the making and begin again"
        kept = np.array([record.status == "sanitized" for record in read_records(rows)], bool)
        # What is absent was moved by another process that was faster.
        labels = read_array(self.working / LABELS, what, self.option, dtype=np.int64, shape=kept.shape, absent=True)
        shape, place = (len(kept), None, None, None), self.working / IMAGES
        images: NDArray[np.uint8] = read_array(place, what, self.option, dtype=np.uint8, shape=shape, absent=True)
        manifest["labels"] = checksum(labels[kept].tobytes())
        manifest["lost_classes"] = self._names_of(np.setdiff1d(labels, labels[kept]), labels)
        # In the working folder, with which it goes if this process is killed; several kills must not leave several.
        self.tidy()
        partial = self.working / f"{secrets.token_hex(4)}{_PARTIAL}"
        try:
            with open(partial, "wb") as file:
                with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                    with archive.open(zipfile.ZipInfo(IMAGES, ZIP_TIME), "w", force_zip64=True) as member:
                        _write_rows(cast(BinaryIO, member), images, kept)
                    with archive.open(zipfile.ZipInfo(LABELS, ZIP_TIME), "w") as member:
                        np.lib.format.write_array(member, labels[kept], allow_pickle=False)
                    with (
                        archive.open(zipfile.ZipInfo(ROWS, ZIP_TIME), "w", force_zip64=True) as member,
                        open(rows, "rb") as text,
                    ):
                        shutil.copyfileobj(text, member)
                    archive.writestr(zipfile.ZipInfo(MANIFEST, ZIP_TIME), manifest_bytes(manifest))
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.place)
        finally:
            partial.unlink(missing_ok=True)

    def _names_of(self, lost: NDArray[np.int64], labels: NDArray[np.int64]) -> list[str]:
        if not (self.working / "files.txt").exists():
            return [str(label) for label in lost.tolist()]
        files = Names(self.working, "files")
        return [top_folder(files[int(np.argmax(labels == label))]) for label in lost]

    def tidy(self) -> None:
        """See :class:`~poison_and_defend.storage.targets.base.Target`."""
        for left in self.working.glob(f"*{_PARTIAL}"):
            left.unlink(missing_ok=True)


def npz_working(path: Path) -> Path:
    """The working folder beside a file that is being made."""
    return beside(path, "unfinished")


def read_npz_records(path: Path) -> Iterator[RowRecord]:
    """The lines of the ``rows.csv`` in a finished file, one by one."""
    with guarded(path, "no sanitized set", "--out"):
        archive = zipfile.ZipFile(open(open_regular(path), "rb"))  # noqa: SIM115 - goes with the archive
    with guarded(path, "no sanitized set", "--out"), archive, archive.open(ROWS) as member:
        yield from parse_records(io.TextIOWrapper(member, "utf-8", newline=""), f"{path}: {ROWS}")


def read_npz_manifest(path: Path, option: str) -> dict[str, Any] | None:
    """Manifest of a finished ``.npz``, None if there is no file.

    Raises:
        InputError: If the file was not written by :class:`NpzTarget`.
    """
    what = "no sanitized set; choose another, or remove it"
    try:
        descriptor = open_regular(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"cannot read {plain(path)}: {error.strerror} ({option})") from error
    with guarded(path, what, option), open(descriptor, "rb") as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        # Not compressed, so that none is larger than the file, and none twice, of which readers would take either.
        if sorted(info.filename for info in members) != sorted((IMAGES, LABELS, ROWS, MANIFEST)):
            raise ValueError("it does not hold the four members that were written, and these alone")
        if any(info.compress_type != zipfile.ZIP_STORED for info in members) or archive.getinfo(MANIFEST).file_size > MAX_TEXT:
            raise ValueError("a member is not as it was written")
        value = parse_json(archive.read(MANIFEST), path, what, option)
    return check_manifest(value, path, option)


def _write_rows(file: BinaryIO, images: NDArray[np.uint8], kept: NDArray[np.bool_]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (int(kept.sum()), *images.shape[1:])}
    np.lib.format.write_array_header_1_0(file, header)
    step = max(1, _BLOCK // max(1, int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), step):
        file.write(images[start : start + step][kept[start : start + step]].tobytes())
