from collections.abc import Sequence

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_score
from torch import Tensor, nn

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import ActivationClustering
from poison_and_defend.defenses.filters.activation_clustering import misread, reduced_features, two_clusters
from tests.received_sets import judged, received_set, workshop_of


def two_groups(seed: int = 0, poisons: int = 10) -> Tensor:
    """Rows of one Gaussian in ten dimensions, the last of them five deviations apart from the others."""
    rows = torch.from_numpy(np.random.default_rng(seed).normal(size=(100, 10)))
    rows[len(rows) - poisons :, 0] += 5
    return rows.float()


LABELS = torch.zeros(100, dtype=torch.int64)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("options", [{}, {"rule": "silhouette"}, {"dimensions": 4}], ids=str)
def test_a_small_group_apart_goes(seed: int, options: dict) -> None:
    verdict = judged(ActivationClustering(**options), two_groups(seed), LABELS)
    assert not verdict.kept[90:].any() and verdict.kept[:90].float().mean() > 0.9
    assert verdict.scores[90:].min() > verdict.scores[:90].quantile(0.9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rule", ["size", "silhouette"])
def test_of_a_single_gaussian_nothing_goes(seed: int, rule: str) -> None:
    rows = two_groups(seed, poisons=0)
    smaller, _ = two_clusters(reduced_features(rows.double().numpy(), 10, "pca", 0), 0)
    # The rules have something to say no to: without one, more than a third of the class would go.
    assert 35 <= smaller.sum() <= 50
    assert judged(ActivationClustering(rule), rows, LABELS).kept.all()


def test_independent_components_are_of_unit_variance_and_find_a_group_that_is_far_away() -> None:
    rows = np.random.default_rng(0).normal(size=(400, 3)) * [1, 20, 4]
    rows[360:, 0] += 15
    independent = reduced_features(rows, 10, "ica", 0)
    np.testing.assert_allclose(np.cov(independent.T, bias=True), np.eye(3), atol=1e-6)
    labels = torch.zeros(400, dtype=torch.int64)
    found = judged(ActivationClustering(reduction="ica"), torch.from_numpy(rows).float(), labels)
    assert (~found.kept).nonzero()[:, 0].tolist() == list(range(360, 400))
    # Principal components are as long as they were, and the group is no matter of the longest.
    assert judged(ActivationClustering(), torch.from_numpy(rows).float(), labels).kept[360:].any()


def test_principal_components_keep_distances_and_leave_out_what_does_not_vary() -> None:
    rows = np.random.default_rng(1).normal(size=(30, 4))
    wide = np.concatenate([rows, rows[:, :1] * 3, np.full((30, 2), 7.0)], axis=1)
    reduced = reduced_features(wide, 10, "pca", 0)
    assert reduced.shape == (30, 4)
    np.testing.assert_allclose(reduced @ reduced.T, (wide - wide.mean(0)) @ (wide - wide.mean(0)).T, atol=1e-9)
    fewer = reduced_features(wide, 2, "pca", 0)
    variances = np.linalg.eigvalsh(np.cov(wide.T, bias=True))[::-1]
    np.testing.assert_allclose(fewer.var(0), variances[:2])
    assert reduced_features(np.ones((5, 3)), 10, "ica", 0).shape == (5, 0)


def test_the_share_and_the_silhouette_are_the_limits() -> None:
    rows = two_groups(0)
    smaller, _ = two_clusters(reduced_features(rows.double().numpy(), 10, "pca", 0), 0)
    count, level = int(smaller.sum()), silhouette_score(rows.double().numpy(), smaller.numpy())
    assert 0.25 < level < 0.45
    for options, goes in (
        ({"share": (count + 0.5) / 100}, True),
        ({"share": (count - 0.5) / 100}, False),
        ({"rule": "silhouette", "silhouette": level - 0.01}, True),
        ({"rule": "silhouette", "silhouette": level + 0.01}, False),
    ):
        kept = judged(ActivationClustering(**options), rows, LABELS).kept
        assert torch.equal(~kept, smaller) if goes else kept.all()


def test_scores_are_places_between_the_centres() -> None:
    rows = np.array([[0.0], [1], [2], [3], [4], [10], [11], [12]])
    smaller, place = two_clusters(rows, 0)
    assert smaller.tolist() == [False] * 5 + [True] * 3
    np.testing.assert_allclose(place[:3], [(2 - 11) / 13, (1 - 10) / 11, -1])
    np.testing.assert_allclose(place[6], 1)
    # Of two that are as large, the one without the first row counts as the smaller.
    for seed in range(8):
        assert two_clusters(np.array([[5.0], [5.1], [0.0], [0.1]]), seed)[0].tolist() == [False, False, True, True]
    assert two_clusters(rows[:2], 0) is None and two_clusters(np.zeros((8, 0)), 0) is None


class Reader(nn.Module):
    """Reads the class that a pixel says, for networks that were trained on a set in which none says otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.one_hot((images[:, 0, 0, 0] * 255).round().long(), 3).float() * self.scale


def read_as(*classes: int) -> Tensor:
    images = torch.zeros(len(classes), 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.tensor(classes)
    return images


def test_a_cluster_goes_that_a_network_without_it_reads_as_another_class() -> None:
    labels = torch.tensor([0] * 6 + [1] * 6)
    # Of the first two rows both are read as class 2; of the next two one is; of the last three one each.
    images = read_as(2, 2, 0, 2, 0, 0, 1, 1, 1, 0, 1, 2)
    clusters = [torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([9, 10, 11])]
    asked: list[Tensor] = []

    def train(parts: Sequence[Tensor]) -> list[nn.Module]:
        asked.extend(parts)
        return [Reader() for _ in parts]

    found = misread(received_set(labels, images, num_classes=3), workshop_of(train=train), clusters)
    assert [own.tolist() for own in found] == [[0, 1]]
    for part, own in zip(asked, clusters, strict=True):
        assert sorted([*part.tolist(), *own.tolist()]) == list(range(12))


def test_the_rule_of_training_asks_about_the_smaller_cluster_of_every_class_at_once() -> None:
    features = torch.cat([two_groups(0), two_groups(1)])
    labels = torch.tensor([0] * 100 + [2] * 100)
    calls: list[Sequence[Tensor]] = []

    def train(parts: Sequence[Tensor]) -> list[nn.Module]:
        calls.append(parts)
        return [Reader() for _ in parts]

    # The poisons of class 2 look like class 1; the far rows of class 0 are what they say.
    images = read_as(*[0] * 100, *[2] * 90, *[1] * 10)
    verdict = ActivationClustering("exclusionary").judge(received_set(labels, images), workshop_of(features, train=train))
    assert verdict.kept[:100].all() and not verdict.kept[190:].any()
    (parts,) = calls
    assert len(parts) == 2 and all(0 < 200 - len(part) < 20 for part in parts)


def test_classes_are_judged_apart_and_by_the_seed() -> None:
    features = torch.cat([two_groups(0), two_groups(1, poisons=0) * 50 + 9])
    labels = torch.tensor([0] * 100 + [5] * 100)
    verdict = judged(ActivationClustering(), features, labels)
    alone = judged(ActivationClustering(), features[:100], labels[:100])
    assert torch.equal(verdict.kept[:100], alone.kept) and verdict.kept[100:].all()
    torch.testing.assert_close(verdict.scores[:100], alone.scores)
    again = judged(ActivationClustering(), features, labels, seed=2**40)
    assert torch.equal(again.kept, verdict.kept)


def test_classes_without_two_clusters_stay() -> None:
    features = torch.cat([torch.ones(5, 3), torch.randn(2, 3, generator=torch.Generator().manual_seed(0))])
    verdict = judged(ActivationClustering(share=0.5), features, torch.tensor([0] * 5 + [1] * 2))
    assert verdict.kept.all() and (verdict.scores == 0).all()


def test_it_is_told_nothing() -> None:
    ActivationClustering().check_set(LABELS, None)
    assert ActivationClustering().told(25) == ""


@pytest.mark.parametrize(
    ("option", "value"),
    [("rule", "sise"), ("reduction", "tsne"), ("share", 0.6), ("share", 0.0), ("silhouette", 2.0), ("dimensions", 0)],
)
def test_values_out_of_range_are_refused(option: str, value: float | str) -> None:
    with pytest.raises(InputError, match=rf"{option} is .*--arms.activation_clustering.{option}"):
        ActivationClustering(**{option: value})
