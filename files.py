"""Writing files so that a kill at any moment leaves the old one or the new one, never half of one."""

import hashlib
import io
import json
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errors import InputError


def write_bytes(path: Path, content: bytes) -> None:
    """Write to a sibling, then rename over ``path``."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys in the order given."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def digest(value: Any) -> str:
    """Sixteen hex digits that identify a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def make_folder(path: Path, option: str) -> None:
    """Create a folder and prove that it can be written to.

    Raises:
        InputError: If it cannot; ``option`` names what the user should change.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{secrets.token_hex(4)}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write to {path}: {error.strerror} ({option})") from error


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an ``.npy`` file atomically."""
    with io.BytesIO() as buffer:
        np.save(buffer, array, allow_pickle=False)
        write_bytes(path, buffer.getvalue())


def save_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write a compressed ``.npz`` file atomically."""
    with io.BytesIO() as buffer:
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        write_bytes(path, buffer.getvalue())
