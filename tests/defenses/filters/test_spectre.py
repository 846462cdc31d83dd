import numpy as np
import pytest
import torch
from scipy.linalg import expm, sqrtm
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import SpectralSignatures, Spectre
from poison_and_defend.defenses.filters.spectre import entropy_scores, robust_moments, robust_scores
from tests.received_sets import judged


def long_class(seed: int) -> Tensor:
    """950 rows that vary by 10 along the first axis and by 1 along the second, and 50 that stand 6 off it."""
    rng = np.random.default_rng(seed)
    clean = rng.normal(size=(950, 2)) * [10, 1]
    return torch.from_numpy(np.concatenate([clean, rng.normal(size=(50, 2)) * 0.1 + [0, 6]])).float()


@pytest.mark.parametrize("seed", range(3))
def test_poisons_that_stand_off_a_short_axis_are_found_where_spectral_signatures_find_none(seed: int) -> None:
    labels = torch.zeros(1000, dtype=torch.int64)
    found = {kind: ~judged(kind(), long_class(seed), labels, 50).kept for kind in (SpectralSignatures, Spectre)}
    assert all(int(dropped.sum()) == 75 for dropped in found.values())
    assert int(found[SpectralSignatures][950:].sum()) == 0
    assert int(found[Spectre][950:].sum()) == 50


def test_the_covariance_is_that_of_the_clean_rows() -> None:
    rows = long_class(0).double()
    mean, covariance = robust_moments(rows, 100)
    plain = torch.cov(rows.T)
    assert plain[1, 1] > 2.4 and covariance[1, 1] == pytest.approx(1, abs=0.1)
    assert covariance[0, 0] == pytest.approx(100, rel=0.15)
    assert rows.mean(0)[1] > 0.25 and abs(mean[1]) < 0.1


def test_the_covariance_leaves_out_no_more_than_it_may_and_nothing_of_a_gaussian() -> None:
    generator = torch.Generator().manual_seed(1)
    clean = torch.randn(2000, 3, generator=generator, dtype=torch.float64) @ torch.randn(3, 3, generator=generator).double()
    mean, covariance = robust_moments(clean, 200)
    torch.testing.assert_close(mean, clean.mean(0))
    torch.testing.assert_close(covariance, torch.cov(clean.T, correction=0))
    # Ten rows far out, of which four may go: how many did is seen in the mean of what is left.
    outer = torch.cat([clean, torch.full((10, 3), 1e4, dtype=torch.float64)])
    torch.testing.assert_close(robust_moments(outer, 4)[0], outer[:2006].mean(0))
    # Nine are no multiple of what goes at a time.
    torch.testing.assert_close(robust_moments(outer, 9)[0], outer[:2001].mean(0))
    torch.testing.assert_close(robust_moments(outer, 10)[0], clean.mean(0))


def test_scores_are_those_of_the_matrix_exponential() -> None:
    generator = torch.Generator().manual_seed(2)
    rows = torch.randn(200, 4, generator=generator, dtype=torch.float64) * torch.tensor([1, 1.5, 0.7, 2]) + 0.3
    spread = np.cov(rows.numpy().T, bias=True)
    weights = expm(4 * (spread - np.eye(4)) / (np.linalg.norm(spread, 2) - 1))
    scores, outstanding = entropy_scores(rows, 4.0)
    wanted = np.einsum("ni,ij,nj->n", rows.numpy(), weights, rows.numpy()) / np.trace(weights)
    np.testing.assert_allclose(scores.numpy(), wanted, rtol=1e-9)
    assert outstanding == pytest.approx(np.trace(weights @ spread) / np.trace(weights))


@pytest.mark.parametrize("scale", [1.0, 0.5, 1 + 1e-9])
def test_directions_that_vary_as_they_should_weigh_alike(scale: float) -> None:
    """Without a guard the exponent is a quotient of rounding errors, or turns its sign."""
    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    rows = rows - rows.mean(0)
    white = rows @ torch.from_numpy(np.linalg.inv(np.real(sqrtm(np.cov(rows.numpy().T, bias=True))))) * scale**0.5
    white = white * torch.tensor([1, 1, 0.9 if scale == 0.5 else 1])
    scores, outstanding = entropy_scores(white, 4.0)
    torch.testing.assert_close(scores, white.square().mean(1))
    assert outstanding <= scale + 1e-6


def test_the_number_of_dimensions_is_the_one_in_which_rows_stand_out() -> None:
    """Poisons on the seventh axis: seen from nine dimensions on, and blurred by a hundred."""
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(600, 120, generator=generator) * torch.cat(
        [torch.tensor([30.0, 25, 20, 16, 12, 9, 6]), torch.ones(113)]
    )
    features[570:, 6] = 40 + torch.randn(30, generator=generator)
    dropped = robust_scores(features, 30).argsort(descending=True)[:45]
    assert int((dropped >= 570).sum()) == 30


def test_turning_moving_and_scaling_features_changes_nothing() -> None:
    features = long_class(5)[::4].double()
    angle = torch.tensor(0.7)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])]).double()
    wanted = robust_scores(features, 12)
    torch.testing.assert_close(robust_scores(3 * features @ turn + 50, 12), wanted, rtol=1e-6, atol=1e-6)


def test_every_class_is_judged_by_itself_and_the_bound_of_all_filters() -> None:
    features = torch.cat([long_class(6), long_class(7) * 5 + 100])
    labels = torch.tensor([3] * 1000 + [8] * 1000)
    verdict = judged(Spectre(), features, labels, 50)
    assert not verdict.kept[950:1000].any() and not verdict.kept[1950:].any()
    assert [int((~verdict.kept[labels == label]).sum()) for label in (3, 8)] == [75, 75]
    alone = judged(Spectre(), features[:1000], labels[:1000], 50)
    torch.testing.assert_close(verdict.scores[:1000], alone.scores)
    assert Spectre().told(50) == "50 poisons of a class at most"
    assert (~judged(Spectre(bound=20, factor=1.0), features, labels, 50).kept).sum() == 40


def test_small_flat_and_constant_classes_are_judged() -> None:
    labels = torch.zeros(12, dtype=torch.int64)
    assert judged(Spectre(), torch.ones(12, 4), labels, 5).kept.tolist() == [False] * 7 + [True] * 5
    # Fewer dimensions than features, as ReLUs leave them.
    flat = torch.zeros(12, 4)
    flat[:, 2] = torch.arange(12)
    flat[11, 2] = 60
    verdict = judged(Spectre(), flat, labels, 1)
    assert (~verdict.kept).nonzero()[:, 0].tolist() == [11]


def test_what_cannot_be_judged_is_refused() -> None:
    labels = torch.tensor([0] * 30 + [1] * 40)
    with pytest.raises(InputError, match=r"spectre must be told how many poisons.*--arms.spectre.bound"):
        Spectre().check_set(labels, None)
    with pytest.raises(InputError, match=r"spectre would drop 30 rows of each class and class 0 has 30.*--poisons_told"):
        Spectre().check_set(labels, 20)
    with pytest.raises(InputError, match=r"without up to 30 rows of each class, and class 0 has 30: .*--poisons_told"):
        Spectre().check_set(labels, 15)
    Spectre().check_set(labels, 14)


@pytest.mark.parametrize(("option", "value"), [("bound", 0), ("factor", 0.5), ("alpha", -1.0), ("alpha", float("nan"))])
def test_values_out_of_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"{option} is .*--arms.spectre.{option}"):
        Spectre(**{option: value})


def test_rows_are_whitened_by_the_robust_moments() -> None:
    """All of the poisons lie on one side, which the mean of all rows has moved towards them."""
    rows = long_class(8).double()
    mean, covariance = robust_moments(rows - rows.mean(0), 100)
    white = (rows - rows.mean(0) - mean).numpy() @ np.linalg.inv(np.real(sqrtm(covariance.numpy())))
    wanted, _ = entropy_scores(torch.from_numpy(white), 4.0)
    # Scores do not depend on the order and the signs of axes, which principal components choose for themselves.
    np.testing.assert_allclose(robust_scores(rows, 50).numpy(), wanted.numpy(), rtol=1e-6)


def test_a_small_class_is_whitened_by_no_more_directions_than_its_rows_can_tell() -> None:
    """Else rows that the covariance leaves out vary without bound in directions that those it keeps do not have."""
    rows = torch.randn(40, 200, generator=torch.Generator().manual_seed(9))
    assert robust_scores(rows, 10).max() < 30
