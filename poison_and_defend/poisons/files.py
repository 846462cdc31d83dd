"""Poison sets on disk: ``setup_000.safetensors`` for the arrays and ``setup_000.json`` for the rest."""

import hashlib
from pathlib import Path
from typing import Any

from safetensors.torch import save

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import write_bytes, write_json
from poison_and_defend.core.reading.arrays import parse_tensors
from poison_and_defend.core.reading.files import check_fields, guarded, read_bytes, read_json

MAX_BYTES = 1 << 32
"""Of one setup's arrays."""

_WHAT, _OPTION = "no poison set", "--data.poisons"


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
    content, record = read_bytes(path, _OPTION, MAX_BYTES), load_record(path)
    if record.get("sha256") != hashlib.sha256(content).hexdigest():
        raise InputError(f"{path} is truncated or was changed: its SHA-256 is not the one in its .json ({_OPTION})")
    tensors = parse_tensors(content, path, _WHAT, _OPTION)
    try:
        with guarded(path, _WHAT, _OPTION):
            return PoisonSet.from_parts(record, tensors)
    except InputError as error:
        raise error if _OPTION in str(error) else InputError(f"{path}: {error} ({_OPTION})") from error


def load_record(path: Path) -> dict[str, Any]:
    """What lies in JSON beside a poison set's arrays.

    Args:
        path: The ``.safetensors`` file.

    Raises:
        InputError: If it is missing or no JSON object.
    """
    own = path.with_suffix(".json")
    try:
        record: dict[str, Any] = check_fields(read_json(own, _WHAT, _OPTION), {}, own, _WHAT, _OPTION)
    except FileNotFoundError as error:
        raise InputError(f"cannot read the poison set {path}: there is no {own.name} beside it ({_OPTION})") from error
    return record
