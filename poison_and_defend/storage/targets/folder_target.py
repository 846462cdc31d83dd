"""Sanitized images as files, in the layout of the folder they came from."""

import io
import os
import secrets
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import write_bytes
from poison_and_defend.core.hashing import checksum
from poison_and_defend.images.names import Names, write_names
from poison_and_defend.images.pictures import to_picture
from poison_and_defend.images.set_files import MANIFEST, ROWS, WORKING
from poison_and_defend.storage.listed import Listed
from poison_and_defend.storage.records import RowRecord, read_records
from poison_and_defend.storage.targets.base import manifest_bytes, read_manifest
from poison_and_defend.storage.targets.output_names import (
    Format,
    output_names,
    possible_names,
    refuse_file_and_folder,
    top_folder,
)

OUTPUTS = "outputs"


class FolderTarget:
    """A folder of lossless image files with ``rows.csv`` and ``manifest.json`` at its top.

    Until it is complete it also holds a hidden folder, for which torchvision's ``ImageFolder`` refuses it as a class without
    images: nobody trains on half a set by mistake.

    Args:
        folder: Where it goes.
        form: ``png`` or ``webp``, lossless.
        option: What the user should change if the folder cannot be used.
    """

    def __init__(self, folder: Path, form: Format, option: str) -> None:
        self.place, self.form, self.option = folder, form, option
        self.working = folder / WORKING
        self.lost = "have an empty folder, so that labels do not shift"
        self._outputs: Names | None = None
        self._made: set[str] = set()
        self._token, self._numbers = secrets.token_hex(6), count()

    def manifest(self) -> dict[str, Any] | None:
        """See :class:`~poison_and_defend.storage.targets.base.Target`."""
        return read_manifest(self.place, self.option)

    def settings(self) -> dict[str, Any]:
        """See :class:`~poison_and_defend.storage.targets.base.Target`."""
        return {"format": self.form}

    def size(self, pixels: NDArray[np.uint8]) -> int:
        """See :class:`~poison_and_defend.storage.targets.base.Target`."""
        return len(encode(pixels, self.form))

    def records(self) -> Iterator[RowRecord]:
        """See :class:`~poison_and_defend.storage.targets.base.Target`."""
        return read_records(self.place / ROWS)

    def prepare(self, partial: Path, listed: Listed) -> None:
        """Name the outputs after the inputs; rows of an array get names with their classes.

        Raises:
            InputError: If a name cannot be written here.
        """
        if not listed.named:
            write_names(partial, "files", _label_names(listed.labels()))
        files = Names(partial, "files")
        names = output_names((files[row] for row in range(len(files))), self.form)
        write_names(partial, OUTPUTS, possible_names(names, self.place, self.option))
        refuse_file_and_folder(Names(partial, OUTPUTS), self.form, self.option)

    def open(self) -> None:
        """See :class:`~poison_and_defend.storage.targets.base.Target`."""
        self._outputs = Names(self.working, OUTPUTS)
        self._files = Names(self.working, "files")
        if len(self._outputs) != len(self._files):
            raise InputError(
                f"{self.working} is damaged: it names {len(self._files)} images and {len(self._outputs)} outputs; remove it "
                f"and begin again ({self.option})"
            )

    def close(self) -> None:
        """Nothing is held."""

    def write(self, row: int, pixels: NDArray[np.uint8]) -> tuple[str, str]:
        """See :class:`~poison_and_defend.storage.targets.base.Target`."""
        assert self._outputs is not None
        return self._put(self._outputs[row], encode(pixels, self.form))

    def copy(self, row: int, raw: bytes | None) -> tuple[str, str]:
        """The file as it was, under its own name; nothing if it cannot even be read."""
        return ("", "") if raw is None else self._put(self._files[row], raw)

    def _put(self, name: str, content: bytes) -> tuple[str, str]:
        # Paths as text: a Path costs as much as writing a small file.
        path = f"{self.place}/{name}"
        folder = path.rpartition("/")[0]
        if folder not in self._made:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._made.add(folder)
        partial = f"{folder}/.{self._token}-{next(self._numbers)}.partial"
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            try:
                left = memoryview(content)
                while left:
                    left = left[os.write(file, left) :]
                os.fsync(file)
            finally:
                os.close(file)
            os.replace(partial, path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
        return name, checksum(content)

    def sync(self) -> None:
        """Every file is on disk once it is written."""

    def publish(self, rows: Path, manifest: dict[str, Any]) -> None:
        """See :class:`~poison_and_defend.storage.targets.base.Target`."""
        self.open()
        assert self._outputs is not None
        planned = {top_folder(self._outputs[row]) for row in range(len(self._outputs))}
        found = {top_folder(record.output) for record in read_records(rows) if record.output}
        # A class without a folder would shift the labels of those after it; an empty one is refused, or counted.
        manifest["lost_classes"] = sorted(planned - found - {""})
        for name in manifest["lost_classes"]:
            (self.place / name).mkdir(exist_ok=True)
        self.tidy()
        os.replace(rows, self.place / ROWS)
        write_bytes(self.place / MANIFEST, manifest_bytes(manifest))
        self.tidy()

    def tidy(self) -> None:
        """See :class:`~poison_and_defend.storage.targets.base.Target`."""
        for folder, folders, files in os.walk(self.place):
            # Others may be about to begin, or to remove what they began.
            folders[:] = [name for name in folders if not name.startswith(WORKING)]
            for name in files:
                if name.startswith(".") and name.endswith(".partial"):
                    Path(folder, name).unlink(missing_ok=True)


def _label_names(labels: NDArray[np.int64]) -> list[str]:
    """One file a row, in a folder a label, both padded with zeros so that their order is that of numbers."""
    width, digits = len(str(int(labels.max()))), len(str(len(labels) - 1))
    return [f"{label:0{width}d}/{row:0{digits}d}.png" for row, label in enumerate(labels.tolist())]


def encode(pixels: NDArray[np.uint8], form: Format) -> bytes:
    """A lossless image file of ``(C, H, W)``."""
    picture = to_picture(pixels)
    with io.BytesIO() as buffer:
        if form == "png":
            # Twice as fast as the default, for a twentieth more bytes.
            picture.save(buffer, "PNG", compress_level=1)
        else:
            picture.save(buffer, "WEBP", lossless=True, method=0)
        return buffer.getvalue()
