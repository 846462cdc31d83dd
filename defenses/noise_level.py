"""sigma, the standard deviation of the noise: as people write it, and whether it can be meant."""

import math
import os
import sys

import torch

from errors import InputError
from lengths import parse_length

LARGEST = 10.0
"""Ten times the whole range of pixel values. Nobody who means [0, 1] asks for that, and whoever means 0 to 255 asks for more."""

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


def check_sigma_is_meant(sigma: float, trained: float | None, option: str = "--sigma") -> None:
    """Refuse noise that leaves nothing of an image, and say on one line, once, when there is reason to doubt.

    Args:
        sigma: Of images in [0, 1], at least 0.
        trained: The most noise that the denoiser was trained on, as far as is known.
        option: How sigma is given.

    Raises:
        InputError: If it is above :data:`LARGEST`.
    """
    levels = f"{sigma:g}/255"
    if sigma > LARGEST:
        raise InputError(
            f"sigma is {sigma:g}: for images in [0, 1] it is at most {LARGEST:g}, and {sigma:g} of 255 levels is written {levels} "
            f"({option})"
        )
    if trained is not None and sigma > trained:
        _say(f"sigma is {sigma:g}, and this denoiser was trained on noise up to {trained:g} only ({option})")
    elif sigma > 1:
        _say(f"sigma is {sigma:g}, more than the whole range of pixel values; {sigma:g} of 255 levels is {levels} ({option})")


def _say(text: str) -> None:
    rank = next((os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ), "0")
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        rank = str(torch.distributed.get_rank())
    # A certificate builds a defence for every draw, on every rank.
    if rank == "0" and text not in _said:
        _said.add(text)
        print(f"note: {text}", file=sys.stderr)
