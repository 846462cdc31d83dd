"""Lengths in [0, 1] pixel units as people write them: ``0.25`` or ``8/255``."""

import math
from fractions import Fraction


def parse_length(length: float | str) -> float:
    """A number, or a fraction whose parts may have decimals such as ``1.5/255``; NaN for what is neither."""
    if not isinstance(length, str):
        return float(length)
    try:
        numerator, denominator = map(Fraction, length.split("/")) if "/" in length else (Fraction(length), Fraction(1))
        return float(numerator / denominator)
    except (ValueError, ZeroDivisionError, OverflowError):
        return math.nan
