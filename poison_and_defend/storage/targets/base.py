"""Where a sanitized set goes, and what is there once it is complete."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import check_fields, guarded, read_json
from poison_and_defend.images.set_files import MANIFEST, WORKING
from poison_and_defend.storage.listed import Listed
from poison_and_defend.storage.records import RowRecord


class Target(Protocol):
    """A place for the outputs.

    Attributes:
        place: The folder or file that the user named.
        working: The folder that is shared until the set is complete.
        option: What the user should change if the place cannot be used.
        lost: What becomes of a class none of whose images could be sanitized.
    """

    place: Path
    working: Path
    option: str
    lost: str

    def manifest(self) -> dict[str, Any] | None:
        """That of a complete set, None if there is none yet.

        Raises:
            InputError: If something else is there.
        """

    def settings(self) -> dict[str, Any]:
        """What the bytes depend on besides the pixels."""

    def prepare(self, partial: Path, listed: Listed) -> None:
        """Reserve room in the working folder that is about to be."""

    def size(self, pixels: NDArray[np.uint8]) -> int:
        """Bytes that an image ``(C, H, W)`` will need beyond what is reserved."""

    def records(self) -> Iterator[RowRecord]:
        """The lines of ``rows.csv`` of a complete set, one by one."""

    def open(self) -> None:
        """Get ready to write; the working folder is there."""

    def write(self, row: int, pixels: NDArray[np.uint8]) -> tuple[str, str]:
        """Write one image ``(C, H, W)``; returns its path below the output and its checksum. Called from several threads."""

    def copy(self, row: int, raw: bytes | None) -> tuple[str, str]:
        """Keep an image that could not be sanitized as it was."""

    def close(self) -> None:
        """Give back what :meth:`open` took."""

    def sync(self) -> None:
        """Return once all that was written is on disk."""

    def publish(self, rows: Path, manifest: dict[str, Any]) -> None:
        """Make the set complete, the manifest last, which gets ``lost_classes`` and what else the target knows."""

    def tidy(self) -> None:
        """Remove from a complete set what processes left that were killed while they wrote."""


_WHAT = "no manifest of a sanitized set"
_FIELDS = {
    "settings": dict,
    "rows": str,
    "count": int,
    "sanitized": int,
    "copied": int,
    "skipped": int,
    "not_sanitized": list,
    "not_taken": list,
    "lost_classes": list,
}


def check_manifest(value: Any, name: Path, option: str) -> dict[str, Any]:
    """Refuse what is no manifest.

    Raises:
        InputError: Naming what is wrong.
    """
    manifest: dict[str, Any] = check_fields(value, _FIELDS, name, _WHAT, option)
    for entry in manifest["not_sanitized"]:
        check_fields(entry, {"row": int, "file": str, "status": str, "reason": str}, name, _WHAT, option)
    with guarded(name, _WHAT, option):
        if not all(isinstance(entry, str) for entry in (*manifest["not_taken"], *manifest["lost_classes"])):
            raise ValueError("it lists what are no names")
        if manifest["sanitized"] + manifest["copied"] + manifest["skipped"] != manifest["count"]:
            raise ValueError("its numbers of images do not add up")
    return manifest


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """A manifest as it is written."""
    return (json.dumps(manifest, indent=2) + "\n").encode()


def digest_set(manifest: dict[str, Any]) -> str:
    """64 hex digits over the manifest, and through its checksums over all rows and images: what a set *is*."""
    return hashlib.sha256(manifest_bytes(manifest)).hexdigest()


def read_manifest(folder: Path, option: str) -> dict[str, Any] | None:
    """Manifest of a complete set in a folder.

    Raises:
        InputError: If the folder holds anything else than a set in the making or a complete one.
    """
    found = _read_manifest(folder, option)
    if found is not None:
        return found
    try:
        # Hidden files are no images; another process may just be finding out whether it can write here.
        foreign = folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}, or what is above it, cannot be read: {error.strerror} ({option})") from error
    if foreign and not (folder / WORKING).exists():
        # Another process may just have finished it, or begun to write beside it.
        found = _read_manifest(folder, option)
        if found is None and not (folder / WORKING).exists():
            raise InputError(f"{folder} is not a sanitized set and not empty: choose another ({option})")
    return found


def _read_manifest(folder: Path, option: str) -> dict[str, Any] | None:
    path = folder / MANIFEST
    try:
        value = read_json(path, _WHAT, option)
    except FileNotFoundError:
        if folder.is_symlink() or not folder.exists() or folder.is_dir():
            return None
        raise InputError(f"{folder}, or what is above it, is a file: name a folder ({option})") from None
    except InputError as error:
        if any(part.exists() and not part.is_dir() for part in (folder, *folder.parents)):
            raise InputError(f"{folder}, or what is above it, is a file: name a folder ({option})") from error
        raise InputError(f"{folder} is not a sanitized set: {error}; choose another, or remove it ({option})") from error
    return check_manifest(value, path, option)
