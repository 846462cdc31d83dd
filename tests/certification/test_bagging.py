import numpy as np
import pytest

from poison_and_defend.certification import bagging_poisons


@pytest.mark.parametrize(("n", "m"), [(600, 30), (50_000, 500), (10**9, 10**6)])
def test_bagging_holds_at_k_and_not_at_one_more(n: int, m: int) -> None:
    for winner, others in ((0.9, 0.1), (0.6, 0.3), (0.999, 0.001), (0.51, 0.49)):
        k = float(bagging_poisons(winner, others, n, m))
        lost = [-2 * np.expm1(m * np.log1p(-count / n)) for count in (k, k + 1)]
        assert lost[0] < winner - others <= lost[1]


def test_bagging_needs_a_leader() -> None:
    assert bagging_poisons([0.5, 0.2, 1.0], [0.5, 0.4, 0.0], 600, 30).tolist()[:2] == [-1, -1]
