from math import comb
from typing import Any

import pytest
import torch

from poison_and_defend.certification import vote_bounds
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import Bagging

KEYS, LABELS = torch.arange(100, 400), torch.zeros(300, dtype=torch.int64)


def test_subsamples_are_drawn_by_numbers_alone_and_without_replacement() -> None:
    vote = Bagging(models=20, size=50, key=0)
    parts = vote.parts(KEYS, LABELS, 2)
    assert len(parts) == 20 and all(len(rows.unique()) == 50 for rows in parts)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    again = vote.parts(KEYS[order], LABELS, 2)
    for one, other in zip(parts, again, strict=True):
        assert set(KEYS[one].tolist()) == set(KEYS[order][other].tolist())
    assert not torch.equal(Bagging(models=20, size=50, key=1).parts(KEYS, LABELS, 2)[0], parts[0])


def test_without_a_key_the_run_gives_one_and_without_a_run_nobody_can_tell_the_subsamples() -> None:
    vote = Bagging(models=2, size=50)
    assert not torch.equal(vote.parts(KEYS, LABELS, 2)[0], vote.parts(KEYS, LABELS, 2)[0])
    assert vote.completed(key=7, sigma=0.25).settings()["key"] == 7
    assert Bagging(key=3).completed(key=7).settings()["key"] == 3


def test_what_is_withstood_is_what_subsamples_without_a_poison_decide() -> None:
    vote = Bagging(models=1000, size=10, alpha=0.01)
    votes = torch.zeros(1000, 3, dtype=torch.int64)
    votes[:100, 1], votes[:480, 2] = 1, 1
    found = vote.withstands(votes, 2, 300).tolist()
    # Independent: the largest k for which the winner keeps more than half if every subsample with a poison turns.
    lower = vote_bounds(torch.tensor([[1000, 0], [900, 100], [520, 480]]).numpy(), 0.01).winner

    def clean(k: int) -> float:
        return comb(300 - k, 10) / comb(300, 10)

    expected = [max((k for k in range(291) if p - (1 - clean(k)) > 0.5), default=0) for p in lower]
    assert found == expected and expected[0] > expected[1] > expected[2] == 0


@pytest.mark.parametrize("options", [{"models": 1}, {"size": 0}, {"alpha": 0.0}, {"alpha": 1.0}, {"key": -1}])
def test_values_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        Bagging(**options)


def test_subsamples_of_the_whole_set_are_refused() -> None:
    with pytest.raises(InputError, match=r"subsamples is 300, and there are 300 rows.*--arms.bagging.size"):
        Bagging(size=300).parts(KEYS, LABELS, 2)
