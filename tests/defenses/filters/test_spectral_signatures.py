import numpy as np
import pytest
import torch
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import Received, SpectralSignatures, Workshop
from poison_and_defend.defenses.filters.spectral_signatures import outlier_scores


def judge(features: Tensor, labels: Tensor, told: int | None, **options):
    received = Received(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), labels, torch.arange(len(labels)), 10, told, 0)
    workshop = Workshop(lambda: torch.nn.Identity(), lambda: features, lambda parts: [])
    return SpectralSignatures(**options).judge(received, workshop).check(received, "spectral_signatures")


@pytest.fixture
def one_axis() -> Tensor:
    """95 rows around 5, five at 2, in one of three dimensions."""
    rng = np.random.default_rng(0)
    values = torch.zeros(100, 3)
    values[:95, 0] = torch.from_numpy(5 + rng.uniform(-0.1, 0.1, 95)).float()
    values[95:, 0] = 2.0
    return values


def test_centred_features_give_the_poisons_away(one_axis: Tensor) -> None:
    verdict = judge(one_axis, torch.zeros(100, dtype=torch.int64), 5, factor=1.0)
    assert (~verdict.kept).nonzero()[:, 0].tolist() == [95, 96, 97, 98, 99]
    # What public code does without the centre drops clean rows.
    uncentred = (one_axis.double() @ torch.linalg.svd(one_axis.double(), full_matrices=False).Vh[0]).square()
    assert uncentred.argsort(descending=True)[:5].max() < 95


def test_scores_are_those_of_the_covariances_first_eigenvector() -> None:
    features = torch.randn(40, 7, generator=torch.Generator().manual_seed(1)) * torch.arange(1, 8)
    centred = features.double() - features.double().mean(0)
    first = np.linalg.eigh((centred.T @ centred).numpy())[1][:, -1]
    np.testing.assert_allclose(outlier_scores(features).numpy(), (centred.numpy() @ first) ** 2, rtol=1e-9)


def test_one_and_a_half_times_the_bound_goes_from_every_class(one_axis: Tensor) -> None:
    features = torch.cat([one_axis, one_axis.flip(0) + 3])
    labels = torch.tensor([0] * 100 + [7] * 100)
    verdict = judge(features, labels, 5)
    for label in (0, 7):
        assert int((~verdict.kept[labels == label]).sum()) == 7
    assert not verdict.kept[95:105].any()
    assert judge(features, labels, 25, bound=2).kept.sum() == 200 - 6


def test_classes_are_judged_apart() -> None:
    """The features of another class must not turn the direction of this one."""
    features = torch.randn(60, 5, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(60) % 3
    alone = judge(features[labels == 1], torch.ones(20, dtype=torch.int64), 2)
    moved = torch.where((labels == 1)[:, None], features, features * 100 + 7)
    together = judge(moved, labels, 2)
    torch.testing.assert_close(together.scores[labels == 1], alone.scores)
    assert torch.equal(together.kept[labels == 1], alone.kept)


def test_features_that_are_all_the_same_drop_the_first_rows() -> None:
    verdict = judge(torch.ones(10, 4), torch.zeros(10, dtype=torch.int64), 2)
    assert verdict.kept.tolist() == [False] * 3 + [True] * 7


def test_it_must_be_told_and_must_leave_something() -> None:
    labels = torch.tensor([0] * 30 + [1] * 40)
    with pytest.raises(InputError, match=r"must be told how many poisons.*--arms.spectral_signatures.bound"):
        SpectralSignatures().check_set(labels, None)
    with pytest.raises(InputError, match=r"drop 30 rows of each class and class 0 has 30: .*--poisons_told"):
        SpectralSignatures().check_set(labels, 20)
    SpectralSignatures().check_set(labels, 19)
    SpectralSignatures(bound=3).check_set(labels, 400)


@pytest.mark.parametrize(
    ("option", "value"), [("bound", 0), ("factor", 0.5), ("factor", float("nan")), ("factor", float("inf"))]
)
def test_values_out_of_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"{option} is .*--arms.spectral_signatures.{option}"):
        SpectralSignatures(**{option: value})
