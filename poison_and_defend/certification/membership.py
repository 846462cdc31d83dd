"""Images that are added or removed, against models that draw each image with a chance of its own (Poisson sampling).

With subsamples of a fixed size, one image more changes the law of all subsamples; where every image is drawn for itself, those
that hold none of the added or removed ones have the same law as before. `docs/explain/certificates.md` derives the bounds.
"""

import numpy as np
from numpy.typing import ArrayLike

from poison_and_defend.certification.confidence import check_probabilities
from poison_and_defend.certification.rounding import Floats, lowered
from poison_and_defend.certification.sampling import Poisson, check_k
from poison_and_defend.core.errors import InputError

_CUT = 2e-9


def membership_lower(p: ArrayLike, added: int, removed: int, changed: int, sampling: Poisson) -> Floats:
    """The least that a class's probability can become when images come, go and turn into any others, labels included.

    Condition: every model draws each image with chance q by itself, and is trained by any rule that sees its own images and
    their labels alone. With u = 1 - (1 - q)^(removed + changed), the chance of a subsample of the received set to hold one that
    was removed or changed:

        (p - u) (1 - q)^(added - removed),    at least 0

    It is attained: a rule may answer wrongly whenever it sees one of them. :meth:`Poisson.draw` cuts draws that are longer than
    its ``length``, one in a billion, at a place that depends on n; twice that is taken off besides.

    Args:
        p: Probabilities on the received set, or lower bounds of them, any shape.
        added: How many images may have come.
        removed: How many may have gone.
        changed: How many may be others, with other labels.
        sampling: With the chance q; its n is the number of received images.

    Raises:
        InputError: If a number is negative or above n, or ``p`` is no probability.
    """
    check_probabilities(p)
    check_k(removed + changed, sampling.n)
    if added < 0 or removed < 0 or changed < 0:
        raise InputError(f"{added} added, {removed} removed and {changed} changed images: numbers are at least 0")
    given = np.asarray(p, np.float64)
    if not added + removed + changed:
        return given
    if sampling.q == 1:
        # Every model sees all that there is.
        return np.zeros_like(given)
    # log1p and expm1 keep the digits of small chances.
    log_missed = np.log1p(-sampling.q)
    drawn = -np.expm1((removed + changed) * log_missed)
    left = np.maximum(given - drawn, 0) * np.exp((added - removed) * log_missed)
    return np.clip(lowered(left) - _CUT, 0.0, 1.0)
