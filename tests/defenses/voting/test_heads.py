import numpy as np
import pytest
import torch

from poison_and_defend.defenses.voting.heads import Heads, trusted_head


def unit(count: int, seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


def ridge(seen: torch.Tensor, labels: torch.Tensor, tested: torch.Tensor) -> np.ndarray:
    """In its primal form, by numpy."""
    wanted = np.eye(3)[labels.numpy()] - 1 / 3
    x = seen.numpy().astype(float)
    return tested.numpy() @ np.linalg.solve(x.T @ x + np.eye(8), x.T @ wanted)


@pytest.mark.parametrize("with_trusted", [False, True])
def test_each_part_is_a_ridge_regression_of_its_own(with_trusted: bool) -> None:
    places, labels, tested = unit(60, 0), torch.arange(60) % 3, unit(11, 1)
    known = unit(9, 2), torch.arange(9) % 3
    rows = torch.randperm(60, generator=torch.Generator().manual_seed(3)).view(5, 12)
    heads = Heads.fit(places, labels, rows, 3, known if with_trusted else None)
    found = heads.scores(tested @ places.T, tested @ known[0].T if with_trusted else None)
    for part, own in enumerate(rows):
        seen, named = places[own], labels[own]
        if with_trusted:
            seen, named = torch.cat([seen, known[0]]), torch.cat([named, known[1]])
        assert found[part].numpy() == pytest.approx(ridge(seen, named, tested), abs=1e-4)


def test_so_is_the_head_of_trusted_rows() -> None:
    places, labels, tested = unit(30, 0), torch.arange(30) % 3, unit(11, 1)
    found = (tested @ places.T) @ trusted_head(places, labels, 3)
    assert found.numpy() == pytest.approx(ridge(places, labels, tested), abs=1e-4)
