"""The whole set's certificate for models that each see a subsample: the same budget, spread out, mostly misses them.

Ours; `docs/explain/certificates.md` derives it. It is to :mod:`poison_and_defend.certification.whole_set` what privacy
amplification by subsampling (Balle, Barthe, Gaboardi, NeurIPS 2018) is to the Gaussian mechanism.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, ndtr

from poison_and_defend.certification.rounding import Floats, lowered
from poison_and_defend.certification.whole_set import shifts, whole_set_lower, whole_set_radius
from poison_and_defend.core.errors import InputError

_HALVINGS = 60
_GOLDEN = (np.sqrt(5) - 1) / 2
_STEPS = 70
_GRID_STEP = 0.005


def subsampled_set_lower(p: ArrayLike, change: ArrayLike, sigma: float, inclusion: float) -> Floats:
    """The least that a class's probability can become when the set moves by ``change`` in the Frobenius norm.

    Theorem: let every model see the training set only through a subsample S, the images of S with noise N(0, sigma^2 I) of its
    own, and all labels, where S is drawn without looking at the images and each image is in it with probability
    ``inclusion``. For every multiplier c >= 0 a class of probability p on D has, on every D' with ||D' - D||_F <= R, at least

        c p - sup E[h_c(W)],   h_c(w) = c Phi(ln c / mu + mu / 2) - Phi(ln c / mu - mu / 2),   mu = sqrt(w) / sigma

    with the supremum over all laws of W = ||D'_S - D_S||_F^2 in [0, R^2] with mean at most inclusion R^2, which is the concave
    envelope of h_c on [0, R^2] at inclusion R^2. The best c is searched; any c gives a valid bound. How the change is spread
    over the images does not matter.

    Args:
        p: Probabilities on D, or lower bounds of them, in [0, 1], any shape.
        change: R, at least 0, broadcast with p.
        sigma: In [0, 1] pixel units, above 0.
        inclusion: In (0, 1]: m / n or q.

    Raises:
        InputError: If ``sigma`` or ``inclusion`` is out of range.
    """
    _check_inclusion(inclusion)
    given, distance = shifts(p, change, sigma)
    plain = whole_set_lower(given, distance, 1.0)
    if inclusion == 1 or not given.size:
        return plain
    # Farther than this nothing is left however little is seen.
    flat, top = given.ravel(), np.clip(distance.ravel(), 1e-9, 1e150)

    def bound(log_c: Floats) -> Floats:
        # From the side that keeps the digits: c p - max(c - 1, 0) is 1 - c (1 - p) where c is above 1.
        c = np.exp(log_c)
        value: Floats = np.where(log_c > 0, 1 - c * (1 - flat), c * flat) - _envelope(log_c, top, inclusion)
        return value

    # The bound is concave in c, and unimodal in ln c; the whole set's own c is exp(mu z - mu^2 / 2), this one is nearer to 1.
    reach = np.minimum(top * (top / 2 + 9), 40.0)
    low, high = -reach, reach
    for _ in range(_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        rising = bound(right) > bound(left)
        low, high = np.where(rising, left, low), np.where(rising, high, right)
    found = np.maximum(bound((low + high) / 2), bound(np.zeros_like(top))).reshape(given.shape)
    # Seeing less is never worse than seeing all, and no change makes a class likelier than it was.
    left = np.minimum(np.maximum(lowered(found), plain), given)
    return np.where(np.isfinite(distance), left, 0.0)


def _check_inclusion(inclusion: float) -> None:
    if not 0 < inclusion <= 1:
        raise InputError(f"the chance to be in a subsample is {inclusion:g}: it is above 0 and at most 1")


def _excess(log_c: Floats, mu: Floats) -> Floats:
    """h_c as a function of mu = sqrt(w) / sigma, less its value at 0: a difference of the tails that are small there."""
    side = np.where(log_c > 0, -1.0, 1.0)
    # A tail of e^-800 times e^40 is nothing either way.
    first = np.exp(log_c + log_ndtr(side * (log_c / mu + mu / 2)))
    value: Floats = side * (first - ndtr(side * (log_c / mu - mu / 2)))
    return value


def _slope(log_c: Floats, mu: Floats) -> Floats:
    """W times the derivative of h_c by w: mu / 2 times the normal density at ln c / mu - mu / 2."""
    value: Floats = mu / 2 * np.exp(-((log_c / mu - mu / 2) ** 2) / 2) / np.sqrt(2 * np.pi)
    return value


def _envelope(log_c: Floats, top: Floats, inclusion: float) -> Floats:
    """The concave envelope of h_c less its value at 0, on w from 0 to top^2 (in units of sigma^2), at inclusion top^2.

    h_c is first convex in w, then concave (its derivative's logarithm has one stationary point), so that the envelope is a
    straight line from 0 to where it is tangent, and h_c from there on.
    """
    low, high = np.full_like(top, 1e-12), top.copy()
    for _ in range(_HALVINGS):
        # In proportion: the tangent may be many magnitudes below the top.
        middle = np.sqrt(low * high)
        # Where both are too small to be told from 0, the function is still convex.
        convex = _slope(log_c, middle) >= _excess(log_c, middle)
        low, high = np.where(convex, middle, low), np.where(convex, high, middle)
    tangent, place = high, np.sqrt(inclusion) * top
    line = _excess(log_c, tangent) * np.minimum(place / tangent, 1.0) ** 2
    value: Floats = np.where(place < tangent, line, _excess(log_c, place))
    return value


def subsampled_set_radius(p: ArrayLike, sigma: float, inclusion: float) -> Floats:
    """Largest R at which a class of probability p stays above 1/2: :func:`subsampled_set_lower` inverted, rounded down.

    Args:
        p: Lower bounds of the class's probability, any shape.
        sigma: Standard deviation of the noise in [0, 1] pixel units, above 0.
        inclusion: Chance that a model sees a row, in (0, 1]: m / n or q.

    Returns:
        At most half a percent below the largest radius for p from .5001 to 1 - 1e-10, more nearer to either end; 0 where p is
        not above 1/2. An even change of all images is the attacker's best up to a point: the radius is then that of the whole
        set divided by sqrt(inclusion), and never more.
    """
    _check_inclusion(inclusion)
    bounds = np.asarray(p, np.float64)
    plain = np.asarray(whole_set_radius(bounds, np.maximum(1 - bounds, 0), sigma))
    plain = np.where(bounds > 0.5, plain, 0.0)
    found = plain[(plain > 0) & np.isfinite(plain)]
    if inclusion == 1 or not found.size:
        return plain
    most = float(found.max()) / np.sqrt(inclusion)
    radii = np.geomspace(float(found.min()), most, 2 + int(np.log(most / found.min()) / _GRID_STEP))
    # Seen from the other side, as for the joint certificate: the most that 1/2 can become. One table for all images.
    needed = np.maximum.accumulate(1 - subsampled_set_lower(0.5, radii, sigma, inclusion))
    places = np.searchsorted(needed, bounds, side="left")
    return np.maximum(plain, np.where(plain > 0, np.where(places > 0, radii[np.maximum(places - 1, 0)], 0.0), 0.0))
