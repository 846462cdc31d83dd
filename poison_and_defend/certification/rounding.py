"""How far computed bounds keep from exact ones: rounding must never promise more than is proved."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

SLACK = 1e-11
"""Taken off lower bounds and added to upper ones: above every error seen against 50-digit arithmetic, below what matters."""


def lowered(bound: ArrayLike) -> Floats:
    """A lower bound of a probability, safe from rounding, at least 0."""
    return np.maximum(np.asarray(bound, np.float64) - SLACK, 0)


def raised(bound: ArrayLike) -> Floats:
    """An upper bound of a probability, safe from rounding, at most 1."""
    return np.minimum(np.asarray(bound, np.float64) + SLACK, 1)
