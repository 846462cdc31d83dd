"""From what an attacker may do to one image to the Euclidean norms that certificates speak of."""

from math import prod, sqrt
from typing import Literal

from poison_and_defend.core.errors import InputError


def l2_norm(eps: float, norm: Literal["linf", "l2"], shape: tuple[int, ...]) -> float:
    """Largest l2 norm that one image's change can have.

    Args:
        eps: Budget of one image, in [0, 1] pixel units, at least 0.
        norm: ``linf``: every pixel moves by at most ``eps``, so that the l2 norm is at most ``eps`` times the square root of
            the number of values; ``l2``: ``eps`` itself.
        shape: Of one image, (C, H, W).

    Returns:
        The bound, never above the diameter of the image space, the square root of the number of values.

    Raises:
        InputError: If ``eps`` is negative or not a number.
    """
    if not eps >= 0:
        raise InputError(f"eps is {eps:g}: a budget is at least 0 (--eps)")
    values = sqrt(prod(shape))
    return min(eps * values if norm == "linf" else eps, values)


def set_norm(eps: float, k: int) -> float:
    """Frobenius norm of the whole set's change when ``k`` images change by an l2 norm of ``eps`` each."""
    return eps * sqrt(k)
