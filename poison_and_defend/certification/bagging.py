"""Bagging's certificate, to print beside ours: it counts poisons, whatever those look like."""

import numpy as np
from numpy.typing import ArrayLike

from poison_and_defend.certification.confidence import check_probabilities
from poison_and_defend.certification.rounding import SLACK, Floats


def bagging_poisons(winner: ArrayLike, others: ArrayLike, n: int, m: int) -> Floats:
    """Largest number of arbitrarily changed images that bagging withstands (Jia, Cao, Gong, AAAI 2021, Corollary 1).

    Condition: every model is trained on m of n images drawn *with* replacement. For changes that leave n as it is, the vote
    stands while pA - pB > 2 (1 - (1 - k / n)^m).

    Args:
        winner: Lower bounds pA, any shape.
        others: Upper bounds pB.

    Returns:
        Whole numbers as floats, at most one too small where rounding decides; -1 where the winner does not lead.
    """
    check_probabilities(winner, others)
    margin = np.asarray(winner, np.float64) - np.asarray(others, np.float64)
    # log1p and expm1 keep the margin's digits for m of 10^8.
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = -n * np.expm1(np.log1p(-np.clip(margin, 0, 2) / 2) / m)
    # The largest integer strictly below, also of a bound that rounding has lifted to above one.
    return np.where(margin > 0, np.clip(np.ceil(bound * (1 - SLACK)) - 1, 0, n), -1.0)
