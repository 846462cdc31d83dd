"""Where a sanitized set goes, and what is there once it is complete."""

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from errors import InputError

MANIFEST, ROWS, WORKING = "manifest.json", "rows.csv", ".unfinished"


class Target(Protocol):
    """A place for the outputs.

    Attributes:
        place: The folder or file that the user named.
        working: The folder that is shared until the set is complete.
        option: What the user should change if the place cannot be used.
    """

    place: Path
    working: Path
    option: str

    def manifest(self) -> dict[str, Any] | None:
        """That of a complete set, None if there is none yet.

        Raises:
            InputError: If something else is there.
        """

    def prepare(self, partial: Path, rows: int) -> None:
        """Reserve room in the working folder that is about to be."""

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
        """Make the set complete, the manifest last."""


def read_manifest(folder: Path, option: str) -> dict[str, Any] | None:
    """Manifest of a complete set in a folder.

    Raises:
        InputError: If the folder holds anything else than a set in the making or a complete one.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        manifest["settings"], manifest["rows"], manifest["count"]
        return manifest
    except FileNotFoundError:
        pass
    except NotADirectoryError as error:
        raise InputError(f"{folder}, or what is above it, is a file: name a folder ({option})") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} is not a sanitized set: choose another, or remove it ({option})") from error
    # Hidden files are no images; another process may just be finding out whether it can write here.
    foreign = folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir())
    # Asked last: another process may just have begun to write beside it.
    if foreign and not (folder / WORKING).exists() and not (folder / MANIFEST).exists():
        raise InputError(f"{folder} is not a sanitized set and not empty: choose another ({option})")
    return None
