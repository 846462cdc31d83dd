"""Lengths in [0, 1] pixel units as people write them: ``0.25`` or ``8/255``."""

import math
import re
from fractions import Fraction

_HUGE = re.compile(r"[eE][+-]?[0_]*[1-9_]\d{3}|\S{100}")


def parse_length(length: float | str) -> float:
    """A number, or a fraction whose parts may have decimals such as ``1.5/255``; NaN for what is neither."""
    if not isinstance(length, str):
        return float(length)
    # A fraction is exact: ten characters could ask for a billion digits.
    if _HUGE.search(length):
        return math.nan
    try:
        numerator, denominator = map(Fraction, length.split("/")) if "/" in length else (Fraction(length), Fraction(1))
        return float(numerator / denominator)
    except (ValueError, ZeroDivisionError, OverflowError):
        return math.nan
