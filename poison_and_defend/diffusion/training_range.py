"""How much noise a denoiser was trained on, kept beside its weights."""

import math
import os
from pathlib import Path

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import write_json
from poison_and_defend.core.reading.files import read_json

_NAME = "denoiser.json"
# Ours holds one number.
_MOST_BYTES = 4096


def write_training_range(folder: Path, max_sigma: float | None) -> None:
    """Write the most noise that a model was trained on, for images in [0, 1]; nothing where it is its whole schedule."""
    if max_sigma is not None:
        write_json(folder / _NAME, {"max_sigma": max_sigma})


def read_training_range(folder: Path) -> float | None:
    """What :func:`write_training_range` wrote; None where there is no such file, as with everybody else's models.

    Raises:
        InputError: If the file cannot be used.
    """
    path = folder / _NAME
    if not os.path.lexists(path):
        return None
    what = "no note of how much noise a denoiser was trained on"
    try:
        value = read_json(path, what, "--denoiser", _MOST_BYTES)
    except FileNotFoundError as error:
        raise InputError(f"{path} is a link to a file that is not there (--denoiser)") from error
    found = value.get("max_sigma") if isinstance(value, dict) else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found < math.inf:
        raise InputError(f"{path} does not say how much noise the denoiser was trained on (--denoiser)")
    return float(found)
