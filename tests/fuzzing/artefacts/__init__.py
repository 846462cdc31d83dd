"""One of every kind of file that the project reads: made by its own code at tiny size, and read by its own functions."""

import hashlib
import itertools
from pathlib import Path
from unittest.mock import patch

from tests.fuzzing.artefacts import data_sets, experiments, images, models, poison_sets, sanitized
from tests.fuzzing.artefacts.base import Artefact, Read

ROOMS = (poison_sets, sanitized, experiments, models, images, data_sets)

MAKERS: dict[str, Read] = {kind: make for room in ROOMS for kind, make in room.MAKERS.items()}

__all__ = ["MAKERS", "Artefact", "catalogue", "make_all"]


def make_all(folder: Path) -> None:
    """One of each kind, in folders of their names."""
    numbers = itertools.count()
    fixed = {
        "randbits": lambda bits: next(numbers) + 7**20,
        "token_hex": lambda size=32: hashlib.sha256(str(next(numbers)).encode()).hexdigest()[: 2 * size],
    }
    with patch.multiple("secrets", **fixed):
        for kind, make in MAKERS.items():
            for name in ("", "poisons", "figures") if kind == "experiment" else ("",):
                (folder / kind / name).mkdir(parents=True, exist_ok=True)
            make(folder / kind)


def catalogue(folder: Path) -> list[Artefact]:
    """All files that are changed, in an order that is always the same.

    Args:
        folder: What :func:`make_all` made.
    """
    found = [
        *poison_sets.artefacts(),
        *sanitized.artefacts(folder),
        *experiments.artefacts(),
        *models.artefacts(),
        *images.artefacts(),
        *data_sets.artefacts(),
    ]
    missing = [artefact.name for artefact in found if not (folder / artefact.kind / artefact.file).is_file()]
    assert not missing, missing
    return found
