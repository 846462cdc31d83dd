import numpy as np
import pytest

from poison_and_defend.certification import (
    FixedSize,
    Sampling,
    certified_by_pairs,
    certified_share,
    joint_lower,
    joint_upper,
    largest_eps,
    largest_k,
    needed_grid,
)

LEVELS = np.array([0.2, 0.5, 0.51, 0.7, 0.9, 0.99, 0.999999])


@pytest.mark.parametrize("k", [1, 7, 60])
def test_the_largest_eps_holds_and_a_little_more_does_not(sampling: Sampling, k: int) -> None:
    found = largest_eps(LEVELS, k, 0.5, sampling)
    assert np.isnan(found[:2]).all()
    assert found[2:].tolist() == sorted(found[2:])
    for p, eps in zip(LEVELS[2:], found[2:], strict=True):
        assert float(joint_lower(p, k, eps, 0.5, sampling)) > 0.5
        if np.isfinite(eps):
            assert float(joint_lower(p, k, eps * (1 + 1e-6), 0.5, sampling)) <= 0.5


@pytest.mark.parametrize("eps", [0.02, 0.5, np.inf])
def test_the_largest_k_holds_and_one_more_does_not(sampling: Sampling, eps: float) -> None:
    found = largest_k(LEVELS, eps, 0.5, sampling)
    assert found[:2].tolist() == [-1, -1]
    for p, k in zip(LEVELS[2:], found[2:], strict=True):
        assert float(joint_lower(p, int(k), eps, 0.5, sampling)) > 0.5
        if k < sampling.n:
            assert float(joint_lower(p, int(k) + 1, eps, 0.5, sampling)) <= 0.5


def test_subsamples_that_hardly_meet_a_poison_withstand_anything() -> None:
    assert largest_eps([0.9, 1.0], 5, 0.25, FixedSize(50_000, 200)).tolist() == [np.inf, np.inf]


def test_shapes_and_limits_are_kept() -> None:
    levels = np.array([[0.6, 0.9], [0.99, 0.3]])
    sampling = FixedSize(600, 20)
    assert largest_eps(levels, 10, 0.5, sampling).shape == (2, 2)
    assert largest_k(levels, 0.1, 0.5, sampling, limit=3).max() == 3
    assert largest_k(0.9, 0.0, 0.5, sampling).tolist() == 600


def test_one_table_certifies_all_images(sampling: Sampling) -> None:
    ks, radii = [0, 1, 7, 40], np.array([0.0, 0.1, 0.7, np.inf])
    needed = needed_grid(ks, radii, 0.5, sampling)
    assert needed.shape == (4, 4)
    bounds = np.array([0.0, 0.3, 0.5, 0.7, 0.95, 0.9999])
    for i, k in enumerate(ks):
        for j, eps in enumerate(radii):
            certified = joint_lower(bounds, k, eps, 0.5, sampling) > 0.5
            assert certified_share(bounds, needed)[i, j] == pytest.approx(certified.mean())


def test_no_more_images_can_change_than_there_are_whatever_the_limit() -> None:
    sampling = FixedSize(600, 20)
    assert largest_k([0.9, 0.5], 0.0, 0.5, sampling, limit=10_000).tolist() == [600, -1]
    assert largest_k(0.9, 0.0, 0.5, sampling, limit=600).tolist() == 600
    assert largest_k(0.9, 0.0, 0.5, sampling, limit=0).tolist() == 0


def test_pairs_of_bounds_are_certified_one_by_one_as_all_together(sampling: Sampling, generator: np.random.Generator) -> None:
    winner = generator.choice([0.0, 0.3, 0.45, 0.6, 0.9, 0.999], 60)
    others = np.minimum(generator.choice([0.0, 0.05, 0.2, 0.4], 60), 1 - winner)
    ks, eps = [0, 1, 5, 25], [0.0, 0.1, 2.0, np.inf]
    found = certified_by_pairs(winner, others, ks, eps, 0.5, sampling)
    for i, k in enumerate(ks):
        for j, radius in enumerate(eps):
            own = [
                float(joint_lower(a, k, radius, 0.5, sampling)) > float(joint_upper(b, k, radius, 0.5, sampling))
                for a, b in zip(winner, others, strict=True)
            ]
            assert found[i, j] == pytest.approx(np.mean(own))
    # Where the others have all the rest together, half is what a winner needs.
    assert certified_by_pairs(winner, 1 - winner, ks, eps, 0.5, sampling) == pytest.approx(
        certified_share(winner, needed_grid(ks, eps, 0.5, sampling))
    )
    assert certified_by_pairs(winner[:0], others[:0], ks, eps, 0.5, sampling).tolist() == np.zeros((4, 4)).tolist()
