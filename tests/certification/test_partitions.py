from itertools import product

import numpy as np
import pytest

from poison_and_defend.certification import bagging_poisons, partition_changes


@pytest.mark.parametrize(("n", "m"), [(600, 30), (50_000, 500), (10**9, 10**6)])
def test_bagging_holds_at_k_and_not_at_one_more(n: int, m: int) -> None:
    for winner, others in ((0.9, 0.1), (0.6, 0.3), (0.999, 0.001), (0.51, 0.49)):
        k = float(bagging_poisons(winner, others, n, m))
        lost = [-2 * np.expm1(m * np.log1p(-count / n)) for count in (k, k + 1)]
        assert lost[0] < winner - others <= lost[1]


def test_bagging_needs_a_leader() -> None:
    assert bagging_poisons([0.5, 0.2, 1.0], [0.5, 0.4, 0.0], 600, 30).tolist()[:2] == [-1, -1]


def survives(votes: tuple[int, ...], parts: int) -> bool:
    """Whether no way of turning the votes of so many parts changes the answer, by trying the worst one for each class."""
    label = int(np.argmax(votes))
    for other in range(len(votes)):
        if other != label:
            turned = list(votes)
            moved = min(parts, votes[label])
            turned[label] -= moved
            turned[other] += moved
            if int(np.argmax(turned)) != label:
                return False
    return True


def test_partitions_by_trying_all_small_votes() -> None:
    for votes in product(range(8), repeat=3):
        if sum(votes) == 0:
            continue
        exchanges = int(partition_changes([votes])[0])
        # An exchange may turn two parts.
        assert survives(votes, 2 * exchanges)
        assert not survives(votes, 2 * exchanges + 2)


def test_ties_go_to_the_smaller_class() -> None:
    assert partition_changes([[10, 6, 0], [6, 10, 0], [5, 5, 0]]).tolist() == [1, 0, 0]
    assert partition_changes([[50, 0], [0, 50]]).tolist() == [12, 12]
