"""A vote in two rounds: the two classes that most models name first stand for election by all models.

Rezaei, Banihashem, Chegini, Feizi, "Run-Off Election: Improved Provable Defense against Data Poisoning Attacks" (ICML 2023).
Models that name neither are heard in the second round, so that fewer changed models decide less.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from poison_and_defend.certification.deterministic.partitions import check_votes

Counts = NDArray[np.int64]


class Election(NamedTuple):
    """What models of disjoint parts say of each test image.

    Attributes:
        first: How many name each class first, (T, C).
        prefer: How many rank one class above another, (T, C, C).
    """

    first: Counts
    prefer: Counts


def election(scores: ArrayLike) -> Election:
    """Count the models' rankings; of equal scores the smaller class ranks higher.

    Args:
        scores: Logits or any others that rank classes, (N, T, C).
    """
    given = np.asarray(scores)
    classes = given.shape[2]
    first = (given.argmax(2)[:, :, None] == np.arange(classes)).sum(0)
    prefer = np.zeros((*first.shape, classes), np.int64)
    for one in range(classes):
        for other in range(one + 1, classes):
            prefer[:, one, other] = (given[:, :, one] >= given[:, :, other]).sum(0)
            prefer[:, other, one] = len(given) - prefer[:, one, other]
    return Election(first, prefer)


def run_off(votes: Election, touched: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Winners, and how many rows may change as they like without changing them.

    A changed model moves the difference of any two classes by two at most, in either round. The winner loses if two rivals
    overtake it in the first round, or if one rival comes second and beats it: of the first the cheapest pair counts, of the
    second the cheapest rival, each by the votes that are to be made up. Ties go to the smaller class.

    Args:
        votes: Of at least two classes.
        touched: Parts, and so models, that one poison touches; see
            :func:`poison_and_defend.certification.deterministic.partitions.partition_poisons`.

    Returns:
        ``(T,)`` classes, and ``(T,)`` numbers of poisons, at least 0.

    Raises:
        InputError: If these are no votes, or a poison touches nothing.
    """
    first, prefer = check_votes(votes.first, touched), votes.prefer
    rows, classes = np.arange(len(first)), np.arange(first.shape[1])
    top = np.argsort(-first, axis=1, kind="stable")[:, :2]
    one, other = top.min(1), top.max(1)
    kept = prefer[rows, one, other] >= prefer[rows, other, one]
    winners, second = np.where(kept, one, other), np.where(kept, other, one)
    rival = classes != winners[:, None]
    fewest = np.minimum(_overtaken(first, winners, rival), _beaten(votes, winners, second, rival))
    return winners, (fewest - 1) // touched


def _missing(leader: Counts, follower: Counts, behind: NDArray[np.bool_]) -> Counts:
    """Votes that a follower has to make up, at least 0; one more where a tie is not enough."""
    votes: Counts = np.maximum(leader - follower + behind, 0)
    return votes


def _overtaken(first: Counts, winners: NDArray[np.int64], rival: NDArray[np.bool_]) -> Counts:
    """Fewest changed models by which two rivals may come before the winner in the first round."""
    rows, count = np.arange(len(first)), first.shape[1]
    gaps = _missing(first[rows, winners][:, None], first, np.arange(count) > winners[:, None])
    never = np.full(len(first), np.iinfo(np.int64).max)
    for one in range(count):
        for other in range(one + 1, count):
            a, b = gaps[:, one], gaps[:, other]
            # A model that named the winner and names a rival now helps that one by two and the other rival by one.
            models = np.maximum(np.maximum(-(-a // 2), -(-b // 2)), -(-(a + b) // 3))
            never = np.where(rival[:, one] & rival[:, other], np.minimum(never, models), never)
    return never


def _beaten(votes: Election, winners: NDArray[np.int64], second: NDArray[np.int64], rival: NDArray[np.bool_]) -> Counts:
    """Fewest changed models by which one rival may reach the second round and win it."""
    rows, classes = np.arange(len(winners)), np.arange(rival.shape[1])
    reach = _missing(votes.first[rows, second][:, None], votes.first, classes > second[:, None])
    reach[rows, second] = 0
    win = _missing(votes.prefer[rows, winners], votes.prefer[rows, :, winners], classes > winners[:, None])
    models = np.maximum(-(-reach // 2), -(-win // 2))
    fewest: Counts = np.where(rival, models, np.iinfo(np.int64).max).min(1)
    return fewest
