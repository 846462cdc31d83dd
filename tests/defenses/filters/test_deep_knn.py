import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import DeepKNN
from poison_and_defend.defenses.filters import deep_knn
from poison_and_defend.defenses.filters.deep_knn import outvoted
from tests.received_sets import judged

# Rows of A from 0 on, rows of B from 10 on.
A, B = torch.arange(11) / 100, 10 + torch.arange(5) / 100


def on_a_line(*strays: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of two classes, and others of the first."""
    values = torch.cat([A, B, torch.tensor(strays)])[:, None]
    return values, torch.tensor([0] * 11 + [1] * 5 + [0] * len(strays))


@pytest.mark.parametrize("k", [3, 5])
def test_a_stray_among_the_other_class_goes_alone(k: int) -> None:
    verdict = judged(DeepKNN(k), *on_a_line(10.025))
    assert (~verdict.kept).nonzero()[:, 0].tolist() == [16]


def test_two_rows_at_one_place_do_not_keep_each_other() -> None:
    """Nor does a row vote for itself when it is not the first of those at distance 0."""
    verdict = judged(DeepKNN(5), *on_a_line(10.025, 10.025))
    assert (~verdict.kept).nonzero()[:, 0].tolist() == [16, 17]


def test_a_tie_keeps_the_row() -> None:
    values = torch.tensor([[0.0], [1.0], [-1.0], [100.0], [101.0], [102.0]])
    labels = torch.tensor([0, 0, 1, 1, 1, 1])
    verdict = judged(DeepKNN(2), values, labels)
    assert verdict.scores[0] == 0 and verdict.kept[0]


def by_scikit_learn(features: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Scores of rows without ties, a row at a time."""
    # One more, of which the row itself is left out by its number.
    near = NearestNeighbors(n_neighbors=k + 1).fit(features).kneighbors(features, return_distance=False)
    found = []
    for row, own in enumerate(near):
        votes = np.bincount(labels[own[own != row][:k]], minlength=labels.max() + 1)
        mine, votes[labels[row]] = votes[labels[row]], -1
        found.append((votes.max() - mine) / k)
    return np.array(found)


@pytest.mark.parametrize("k", [1, 4, 25])
def test_scores_are_those_of_scikit_learns_neighbours(k: int) -> None:
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(4, (300,), generator=generator)
    # Far from the origin, where squares of distances lose their digits.
    features = torch.randn(300, 5, generator=generator) + labels[:, None] * 0.7 + 1000
    wanted = by_scikit_learn(features.double().numpy(), labels.numpy(), k)
    scores = outvoted(features, labels, k)
    np.testing.assert_allclose(scores.numpy(), wanted, atol=1e-12)
    verdict = judged(DeepKNN(k), features, labels)
    assert np.array_equal(verdict.kept.numpy(), wanted <= 0) and 0.1 < verdict.kept.float().mean() < 0.9


def test_blocks_of_any_size_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(4)
    labels = torch.randint(3, (120,), generator=generator)
    # Few places, so that many rows are at one distance and some of them have no room among the k.
    features = torch.randint(3, (120, 2), generator=generator).float()
    whole = outvoted(features, labels, 7)
    for size in (1, 120 * 7, 120 * 119):
        monkeypatch.setattr(deep_knn, "_BLOCK", size)
        assert torch.equal(outvoted(features, labels, 7), whole)


def test_of_rows_at_one_distance_the_first_vote() -> None:
    values = torch.tensor([[0.0], [1.0], [-1.0], [1.0], [-1.0]])
    assert outvoted(values, torch.tensor([0, 0, 0, 1, 1]), 2)[0] == -1
    assert outvoted(values, torch.tensor([0, 1, 1, 0, 0]), 2)[0] == 1
    assert outvoted(values, torch.tensor([0, 0, 1, 1, 1]), 3)[0] == pytest.approx(1 / 3)


def test_twice_the_bound_votes_unless_k_is_given() -> None:
    values, labels = on_a_line(10.025)
    assert torch.equal(judged(DeepKNN(), values, labels, told=2).scores, judged(DeepKNN(4), values, labels).scores)
    assert not torch.equal(judged(DeepKNN(), values, labels, told=2).scores, judged(DeepKNN(3), values, labels).scores)
    assert torch.equal(judged(DeepKNN(3), values, labels, told=2).scores, judged(DeepKNN(3), values, labels).scores)


def test_it_is_told_the_bound_only_where_it_needs_it() -> None:
    assert DeepKNN().told(25) == "25 poisons of a class at most" and DeepKNN().told_of == "bound"
    assert DeepKNN(50).told(25) == "" and DeepKNN(50).told_of == "nothing"


def test_what_cannot_be_judged_is_refused() -> None:
    labels = torch.tensor([0] * 30 + [1] * 40)
    with pytest.raises(InputError, match=r"must be told how many neighbours.*--arms.deep_knn.k, --poisons_told"):
        DeepKNN().check_set(labels, None)
    with pytest.raises(InputError, match=r"asks 32 neighbours, twice the 16 poisons.*class 0 has 30 rows.*--poisons_told"):
        DeepKNN().check_set(labels, 16)
    with pytest.raises(InputError, match=r"asks 31 neighbours, and class 0 has 30 rows"):
        DeepKNN(31).check_set(labels, 1)
    DeepKNN(30).check_set(labels, 400)
    DeepKNN().check_set(labels, 15)
    with pytest.raises(InputError, match=r"k is 0.*--arms.deep_knn.k"):
        DeepKNN(0)
