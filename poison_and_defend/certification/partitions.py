"""Certificates of others, to print beside ours: they count poisons, whatever those look like."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from poison_and_defend.certification.rounding import SLACK, Floats


def bagging_poisons(winner: ArrayLike, others: ArrayLike, n: int, m: int) -> Floats:
    """Largest number of arbitrarily changed images that bagging withstands (Jia, Cao, Gong, AAAI 2021, Corollary 1).

    Condition: every model is trained on m of n images drawn *with* replacement. For changes that leave n as it is, the vote
    stands while pA - pB > 2 (1 - (1 - k / n)^m).

    Args:
        winner: Lower bounds pA, any shape.
        others: Upper bounds pB.

    Returns:
        Whole numbers as floats; -1 where the winner does not lead.
    """
    margin = np.asarray(winner, np.float64) - np.asarray(others, np.float64)
    # log1p and expm1 keep the margin's digits for m of 10^8.
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = -n * np.expm1(np.log1p(-np.clip(margin, 0, 2) / 2) / m)
    # The largest integer strictly below, also of a bound that rounding has lifted to above one.
    return np.where(margin > 0, np.clip(np.ceil(bound * (1 - SLACK)) - 1, 0, n), -1.0)


def partition_changes(votes: ArrayLike) -> NDArray[np.int64]:
    """How many images may be exchanged for others under deep partition aggregation (Levine and Feizi, ICLR 2021, Theorem 1).

    Condition: the set is split into parts by a hash of each image, one deterministic model is trained on each part, ties go
    to the smaller class. An insertion or deletion touches one part; an exchange is one of each, and may touch two.

    Args:
        votes: Of the models, (T, C).

    Returns:
        For each test image half of the certified size of the symmetric difference, rounded down, (T,).
    """
    counts = np.asarray(votes, np.int64)
    labels = counts.argmax(1)
    rows = np.arange(len(counts))
    classes = np.arange(counts.shape[1])
    # A smaller class wins a tie, so that it needs one vote less.
    lead = counts[rows, labels][:, None] - counts - (classes < labels[:, None])
    lead[rows, labels] = counts.sum(1).max(initial=0) + 1
    # A lead of d survives the loss of votes that d // 2 changed parts can turn, and an exchange may change two parts.
    exchanges: NDArray[np.int64] = lead.min(1) // 2 // 2
    return exchanges
