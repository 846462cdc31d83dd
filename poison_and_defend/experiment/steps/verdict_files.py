"""What a filter said of one setup's set, on disk: ``setup_000.safetensors`` for the arrays, ``setup_000.json`` for the rest."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from poison_and_defend.core.files import write_bytes, write_json
from poison_and_defend.core.reading.arrays import parse_tensors
from poison_and_defend.core.reading.files import check_fields, guarded, read_bytes, read_json
from poison_and_defend.defenses.filters.base import Verdict

_WHAT = "no verdict of a filter; remove it, and the set is judged again"
_OPTION = "--name"
_MAX_BYTES = 1 << 30


def verdict_path(folder: Path, setup: int) -> Path:
    """Path of a setup's arrays."""
    return folder / f"setup_{setup:03d}.safetensors"


def save_verdict(path: Path, verdict: Verdict, record: dict[str, Any]) -> None:
    """Write one verdict; the JSON comes last, holds the arrays' SHA-256, and marks the verdict as whole."""
    content = save({"kept": verdict.kept.contiguous(), "scores": verdict.scores.contiguous()})
    write_bytes(path, content)
    counts = {"rows": len(verdict.kept), "kept": int(verdict.kept.sum())}
    write_json(path.with_suffix(".json"), record | counts | {"sha256": hashlib.sha256(content).hexdigest()})


def load_verdict(path: Path, rows: int) -> tuple[dict[str, Any], Verdict]:
    """Read and validate one verdict.

    Args:
        path: The ``.safetensors`` file; its ``.json`` lies beside it.
        rows: Of the set that it is about.

    Returns:
        What the JSON says, and the verdict.

    Raises:
        InputError: If a file is truncated, altered or foreign.
    """
    own = path.with_suffix(".json")
    record: dict[str, Any] = check_fields(read_json(own, _WHAT, _OPTION), {"sha256": str}, own, _WHAT, _OPTION)
    content = read_bytes(path, _OPTION, _MAX_BYTES)
    tensors = parse_tensors(content, path, _WHAT, _OPTION)
    with guarded(path, _WHAT, _OPTION):
        if record["sha256"] != hashlib.sha256(content).hexdigest():
            raise ValueError("its SHA-256 is not the one in its .json")
        kept, scores = tensors["kept"], tensors["scores"]
        if kept.shape != (rows,) or kept.dtype != torch.bool or scores.shape != (rows,) or scores.dtype != torch.float32:
            raise ValueError(f"it is not about {rows} rows")
        return record, Verdict(kept, scores)
