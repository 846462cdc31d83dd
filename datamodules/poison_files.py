"""Poison sets on disk: ``setup_000.safetensors`` for the arrays and ``setup_000.json`` for the rest."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from attacks.poison_set import PoisonSet
from errors import InputError
from files import write_bytes, write_json


def poison_path(folder: Path, setup: int) -> Path:
    """Path of a setup's arrays."""
    return folder / f"setup_{setup:03d}.safetensors"


def save_poisons(poisons: PoisonSet, folder: Path, extra: dict[str, Any] | None = None) -> Path:
    """Write one poison set; the JSON comes last, holds the arrays' SHA-256, and marks the set as whole."""
    path = poison_path(folder, poisons.setup.index)
    content = save(poisons.to_tensors())
    write_bytes(path, content)
    record = poisons.to_record() | (extra or {}) | {"sha256": hashlib.sha256(content).hexdigest()}
    write_json(path.with_suffix(".json"), record)
    return path


def load_poisons(path: Path) -> PoisonSet:
    """Read and validate one poison set.

    Args:
        path: The ``.safetensors`` file; its ``.json`` lies beside it.

    Raises:
        InputError: If a file is missing, truncated, altered or foreign, or the set breaks its own budget.
    """
    try:
        content = path.read_bytes()
        record = json.loads(path.with_suffix(".json").read_text())
    except OSError as error:
        raise InputError(f"cannot read the poison set {path}: {error.strerror}: {error.filename} (--data.poisons)") from error
    except ValueError as error:
        raise InputError(f"{path.with_suffix('.json')} is not JSON: {error} (--data.poisons)") from error
    if not isinstance(record, dict) or record.get("sha256") != hashlib.sha256(content).hexdigest():
        raise InputError(f"{path} is truncated or was changed: its SHA-256 is not the one in its .json (--data.poisons)")
    try:
        tensors = load(content)
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path} is not a safetensors file: {error} (--data.poisons)") from error
    return PoisonSet.from_parts(record, tensors)
