"""The images of a sanitized set beside what they were."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import brief, guarded, read_regular
from poison_and_defend.images.arrays import make_split, read_arrays
from poison_and_defend.images.listing import Rules
from poison_and_defend.images.pictures import MAX_FILE_BYTES, UnreadableImageError, check_bits, open_image, to_array
from poison_and_defend.images.set_files import ROWS
from poison_and_defend.storage.folder_source import FolderSource
from poison_and_defend.storage.records import RowRecord, read_records
from poison_and_defend.storage.sources import ArraySource
from poison_and_defend.storage.targets.base import read_manifest
from poison_and_defend.storage.targets.npz_target import read_npz_manifest, read_npz_records

_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Pair:
    """One image.

    Attributes:
        record: Its line in ``rows.csv``.
        group: Name of its class: the top folder of its file, or its label.
        before: ``(C, H, W)`` uint8.
        after: ``(C, H, W)`` uint8, of the shape of ``before``.
    """

    record: RowRecord
    group: str
    before: np.ndarray
    after: np.ndarray


class SetPairs:
    """Reads the pairs of a complete set in order, a few hundred at a time.

    Args:
        sanitized: Folder or ``.npz`` that `sanitize` wrote.
        root: Folder or ``.npz`` that it was made from.
        sample: How many images at most, spread evenly; None for all.

    Raises:
        InputError: If either is missing or not complete.
    """

    def __init__(self, sanitized: Path, root: Path, sample: int | None = None) -> None:
        if sample is not None and sample < 1:
            raise InputError(f"sample is {sample}: at least one image is needed (--sample)")
        self.sanitized, self.root = sanitized, root
        self.manifest = self._read_manifest()
        settings = self.manifest["settings"]
        with guarded(sanitized, "no set that `sanitize` wrote", "--sanitized"):
            if settings["large"] not in ("tiles", "resize") or settings["channels"] not in (1, 3):
                raise ValueError("its settings say another size or number of channels")
            check_bits(settings.get("bits", 16), "--sanitized")
            if not isinstance(settings.get("defense"), str) or not isinstance(settings.get("sigma", 0), float | int):
                raise ValueError("its settings do not say what was done")
        listed = list(read_npz_records(sanitized) if sanitized.suffix == ".npz" else read_records(sanitized / ROWS))
        self.records = [record for record in listed if record.status == "sanitized"]
        self._folders = sorted({_top(record.file) for record in listed})
        self.places = {record.row: place for place, record in enumerate(self.records)}
        if sample is not None and sample < len(self.records):
            chosen = np.linspace(0, len(self.records) - 1, sample).round().astype(int)
            self.records = [self.records[i] for i in chosen.tolist()]
        if not self.records:
            raise InputError(f"{sanitized} holds no sanitized image (--sanitized)")
        self._arrays = read_arrays(sanitized)[0] if sanitized.suffix == ".npz" else None
        if self._arrays is not None and (self._arrays.ndim != 4 or len(self._arrays) != len(self.places)):
            raise InputError(
                f"{sanitized} holds images of shape {self._arrays.shape} and lists {len(self.places)} (--sanitized)"
            )
        square = None
        if settings["large"] == "resize":
            square = self._after(self.records[0]).shape[1]
        self.labels: np.ndarray | None = None
        self.source: ArraySource | FolderSource
        if root.suffix == ".npz":
            split = make_split(*read_arrays(root), 1 << 16, str(root))
            self.labels = split.labels.numpy()
            if max(record.row for record in self.records) >= len(split):
                raise InputError(f"{sanitized} lists more images than the {len(split)} of {root} (--data.root)")
            self.source = ArraySource(split.images, torch.arange(len(split)), square)
        else:
            root = root.parent if root.is_file() else root
            if not root.is_dir():
                raise InputError(f"there is no folder {root} (--data.root)")
            # Which files they were is known; where links lead to is looked at when a set is made.
            rules, bits = Rules("--data.root", follow_links=True), settings.get("bits", 16)
            self.source = FolderSource(root, settings["channels"], square, rules, may_lose_colour=True, bits=bits)

    def __len__(self) -> int:
        return len(self.records)

    def class_numbers(self) -> dict[str, int]:
        """Number of each class by the name of its group: place of a folder among all, or the label."""
        if self.labels is None:
            return {name: number for number, name in enumerate(self._folders)}
        return {str(label): label for label in np.unique(self.labels).tolist()}

    def __iter__(self) -> Iterator[list[Pair]]:
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(self.records), _CHUNK):
                yield list(pool.map(self._pair, self.records[start : start + _CHUNK]))

    def _pair(self, record: RowRecord) -> Pair:
        if isinstance(self.source, FolderSource):
            item = self.source.read_file(record.row, record.file)
        else:
            item = self.source.read(record.row)
        if item.pixels is None:
            raise InputError(f"cannot read {brief(self.root / record.file, 300)}: {item.note} (--data.root)")
        if item.source != record.source:
            raise InputError(f"{brief(self.root / record.file, 300)} is not the image that was sanitized (--data.root)")
        group = _top(record.file) if self.labels is None else str(int(self.labels[record.row]))
        after = self._after(record)
        if after.shape != item.pixels.shape or after.dtype != np.uint8:
            raise InputError(
                f"{self.sanitized}: image {record.row} is {after.dtype} of shape {after.shape}, and {item.pixels.shape} before "
                "it was sanitized (--sanitized)"
            )
        return Pair(record, group, np.ascontiguousarray(item.pixels), after)

    def _after(self, record: RowRecord) -> np.ndarray:
        if self._arrays is not None:
            return self._arrays[self.places[record.row]]
        path = self.sanitized / record.output
        try:
            content = read_regular(path, MAX_FILE_BYTES)
            return np.ascontiguousarray(to_array(open_image(content, self.manifest["settings"]["channels"])[0]))
        except (OSError, UnreadableImageError) as error:
            raise InputError(f"cannot read {brief(path, 300)}: {error} (--sanitized)") from error

    def _read_manifest(self) -> dict[str, Any]:
        is_file = self.sanitized.suffix == ".npz"
        found = (read_npz_manifest if is_file else read_manifest)(self.sanitized, "--sanitized")
        if found is None:
            raise InputError(f"{self.sanitized} is not there or not complete (--sanitized)")
        if "large" not in found["settings"]:
            raise InputError(f"{self.sanitized} is an experiment's own array, not a set that sanitize wrote (--sanitized)")
        return found


def _top(file: str) -> str:
    """Top folder of a file, which is its class."""
    return file.partition("/")[0] if "/" in file else "all"
