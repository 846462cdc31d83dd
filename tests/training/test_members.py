import numpy as np
import pytest
import torch

from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.training.members import overlay


def setup(bases: list[int], rows: list[int] | None = None) -> Setup:
    chosen = None if rows is None else np.array(rows + bases)
    return Setup(0, 0, 0, 1, 2, np.array(bases), chosen)


@pytest.mark.parametrize(
    "setups",
    [[setup([1, 4]), setup([0, 5]), setup([4, 1])], [setup([1, 4], [0, 2, 5]), setup([3, 3], [1, 0, 2])], [setup([2])]],
)
def test_poisons_laid_over_a_set_are_those_put_into_copies_of_it(setups: list[Setup]) -> None:
    train = torch.arange(6) * 10
    poisons = [100 + 10 * s + torch.arange(len(own.base_indices)) for s, own in enumerate(setups)]
    pool_rows, rows = overlay(setups, 6)
    pool = torch.cat([train, *poisons])
    assert pool_rows.tolist() == [*range(6), *(row for own in setups for row in own.base_indices.tolist())]
    for own, chosen, poisoned in zip(setups, rows, poisons, strict=True):
        copy = train[own.rows(6)].clone()
        copy[own.positions] = poisoned
        assert pool[chosen].tolist() == copy.tolist()
        assert (train[pool_rows[chosen]] == train[own.rows(6)]).all()
