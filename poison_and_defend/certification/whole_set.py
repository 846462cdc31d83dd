"""The paper's certificate: the Euclidean norm of the change of the whole training set.

Hong, Carlini, Kurakin, "Certified Robustness to Clean-Label Poisoning Using Diffusion Denoising" (2024), after Cohen,
Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized Smoothing" (ICML 2019).
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from poison_and_defend.certification.confidence import check_probabilities
from poison_and_defend.certification.rounding import SLACK, Floats, lowered, raised
from poison_and_defend.core.errors import InputError


def check_sigma(sigma: float) -> None:
    """Raises: InputError: If there is no noise to certify with, or no end of it."""
    if not 0 < sigma < np.inf:
        raise InputError(f"sigma is {sigma:g}: without noise nothing is certified; take a finite number above 0 (--sigma)")


def whole_set_radius(winner: ArrayLike, others: ArrayLike, sigma: float) -> Floats:
    """R = sigma / 2 (Phi^-1(pA) - Phi^-1(pB)), 0 where the winner does not lead.

    Theorem: let every model be trained on D + v with its own v ~ N(0, sigma^2 I) on all images, by any rule that sees the
    training set only through D + v. If class A has probability at least pA, and every other at most pB < pA, then A stays the
    likeliest class for every set D' with ||D' - D||_F < R. Labels and the number of images are those of D; the norm is over
    the whole set, so that k changes of norm eps each need eps sqrt(k) < R.

    Args:
        winner: Lower bounds pA in [0, 1], any shape.
        others: Upper bounds pB in [0, 1]; 1 - pA gives the one-sided radius sigma Phi^-1(pA).
        sigma: Standard deviation of the noise in [0, 1] pixel units, above 0.

    Raises:
        InputError: If ``sigma`` is not above 0.
    """
    check_sigma(sigma)
    check_probabilities(winner, others)
    high, low = np.broadcast_arrays(np.asarray(winner, np.float64), np.asarray(others, np.float64))
    with np.errstate(invalid="ignore"):
        return np.where(high > low, sigma / 2 * np.maximum(ndtri(high) - ndtri(low) - SLACK, 0), 0.0)


def whole_set_lower(p: ArrayLike, change: ArrayLike, sigma: float) -> Floats:
    """What is left of a probability when the set moves by ``change`` in the Frobenius norm: Phi(Phi^-1(p) - change / sigma)."""
    given, distance = shifts(p, change, sigma)
    # Gaussians a finite distance apart have the same null sets; those infinitely far apart share nothing.
    finite = np.isfinite(distance)
    exact = (distance == 0) | finite & ((given == 0) | (given == 1))
    left = lowered(ndtr(ndtri(given) - np.where(finite, distance, 0)))
    return np.where(exact, given, np.where(finite, left, 0))


def whole_set_upper(p: ArrayLike, change: ArrayLike, sigma: float) -> Floats:
    """What a probability can become when the set moves by ``change``: Phi(Phi^-1(p) + change / sigma)."""
    given, distance = shifts(p, change, sigma)
    finite = np.isfinite(distance)
    exact = (distance == 0) | finite & ((given == 0) | (given == 1))
    found = raised(ndtr(ndtri(given) + np.where(finite, distance, 0)))
    return np.where(exact, given, np.where(finite, found, 1))


def shifts(p: ArrayLike, change: ArrayLike, sigma: float) -> tuple[Floats, Floats]:
    """Probabilities and how far the set moves, in standard deviations, of one shape.

    Raises:
        InputError: If one of them is out of its range.
    """
    check_sigma(sigma)
    check_probabilities(p)
    moved = np.asarray(change, np.float64)
    if not (moved >= 0).all():
        raise InputError(f"the set's change is {np.min(moved):g}: a norm is at least 0")
    with np.errstate(over="ignore"):
        given, distance = np.broadcast_arrays(np.asarray(p, np.float64), moved / sigma)
    return given, distance
