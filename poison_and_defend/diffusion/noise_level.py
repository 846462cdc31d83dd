"""sigma, the standard deviation of the noise: as people write it, and whether it can be meant."""

import math
import os
import sys

import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.lengths import parse_length

LARGEST = 10.0
"""Ten times the whole range of pixel values: nobody who means [0, 1] asks for more, and whoever means 0 to 255 mostly does."""

_said: set[str] = set()


def parse_sigma(sigma: float | str, option: str = "--sigma") -> float:
    """A number of at least 0, or a fraction such as ``25/255``, as a standard deviation for images in [0, 1].

    Raises:
        InputError: If it is neither.
    """
    value = parse_length(sigma)
    if not 0 <= value < math.inf:
        written = f"{sigma:g}" if isinstance(sigma, float) else repr(sigma)
        raise InputError(f"sigma is {written}: write a number of at least 0, or a fraction such as 25/255 ({option})")
    return value


def refuse_ruinous(sigma: float, option: str = "--sigma") -> None:
    """Refuse noise that leaves nothing of an image: above :data:`LARGEST`.

    Raises:
        InputError: Saying what may have been meant.
    """
    if sigma > LARGEST:
        raise InputError(
            f"sigma is {sigma:g}: for images in [0, 1] it is at most {LARGEST:g}, and {sigma:g} of 255 levels is written "
            f"{sigma:g}/255 ({option})"
        )


def note_doubtful(sigma: float, trained: float | None, option: str = "--sigma") -> None:
    """Say on one line, once, that noise is more than images or the denoiser usually see: somebody may mean it.

    Args:
        sigma: Of images in [0, 1].
        trained: The most noise that the denoiser was trained on, as far as is known.
        option: How sigma is given.
    """
    if trained is not None and sigma > trained:
        _say(f"sigma is {sigma:g}, and this denoiser was trained on noise up to {trained:g} only ({option})")
    elif sigma > 1:
        levels = f"{sigma:g} of 255 levels is {sigma:g}/255"
        _say(f"sigma is {sigma:g}, more than the whole range of pixel values; {levels} ({option})")


def _say(text: str) -> None:
    rank = next((os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ), "0")
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        rank = str(torch.distributed.get_rank())
    # A certificate builds a defence for every draw, on every rank.
    if rank == "0" and text not in _said:
        _said.add(text)
        print(f"note: {text}", file=sys.stderr)
