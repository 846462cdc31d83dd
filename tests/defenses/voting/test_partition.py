from itertools import product

import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import Partition
from poison_and_defend.defenses.voting.base import count_votes
from poison_and_defend.defenses.voting.partition import part_of


@pytest.mark.parametrize(("counts", "radius"), [((6, 3, 1), 1), ((4, 6, 0), 0), ((5, 6, 0), 0), ((7, 0, 0), 3), ((0, 0, 7), 3)])
def test_exact_cases(counts: tuple[int, ...], radius: int) -> None:
    votes = torch.tensor([label for label, count in enumerate(counts) for _ in range(count)])[:, None]
    assert Partition().withstands(votes, len(counts), 100).tolist() == [radius]


def test_no_change_of_as_many_models_turns_any_vote_and_one_more_turns_some() -> None:
    """All votes of five models over three classes, against all that can be made of them."""
    tight = []
    for votes in product(range(3), repeat=5):
        own = torch.tensor(votes)[:, None]
        winner = int(Partition().decide(own, 3))
        radius = int(Partition().withstands(own, 3, 100))
        turned = min(
            sum(a != b for a, b in zip(votes, other, strict=True))
             for other in product(range(3), repeat=5)
             if int(count_votes(torch.tensor(other)[:, None], 3).argmax(1)) != winner
        )  # fmt: skip
        assert radius < turned
        tight.append(turned == radius + 1)
    assert all(tight)


def test_ties_go_to_the_smaller_class() -> None:
    assert Partition().decide(torch.tensor([[2, 1], [1, 1], [1, 0], [2, 0]]), 3).tolist() == [1, 0]


def test_a_rows_part_depends_on_its_number_and_the_key_alone() -> None:
    keys = torch.arange(1000)
    parts = part_of(keys, 7, 0)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(part_of(keys[order], 7, 0), parts[order])
    assert not torch.equal(part_of(keys, 7, 1), parts)
    # Even: each is binomial, and six deviations are far.
    sizes = parts.bincount(minlength=7)
    assert (sizes - 1000 / 7).abs().max() < 6 * (1000 * 6 / 49) ** 0.5


def test_parts_hold_every_row_once_and_a_changed_row_touches_one() -> None:
    keys = torch.tensor([5, 900, 3, 77, 12, 41, 8, 1, 2, 60])
    parts = Partition(parts=3).parts(keys, torch.zeros(10), 2)
    assert sorted(torch.cat(parts).tolist()) == list(range(10))
    assert all(torch.equal(rows, rows.sort().values) for rows in parts)


def test_training_seeds_are_far_apart_and_the_victims_own() -> None:
    seeds = Partition().seeds(3, 50)
    assert len(set(seeds)) == 50 and min(abs(a - b) for a in seeds for b in seeds if a != b) >= 2**14
    assert not set(seeds) & set(Partition().seeds(4, 50))


def test_parts_that_cannot_be_trained_on_are_refused() -> None:
    voting = Partition(parts=4)
    with pytest.raises(InputError, match=r"part 1 of 2.*none of the 5 rows.*--arms.partition"):
        voting.check_parts([torch.arange(5), torch.arange(0)], 5)
    with pytest.raises(InputError, match="has 1 parts: at least 2"):
        voting.check_parts([torch.arange(5)], 5)
    with pytest.raises(InputError, match="names row 5 of 5"):
        voting.check_parts([torch.arange(5), torch.tensor([5])], 5)


@pytest.mark.parametrize(("option", "value"), [("parts", 1), ("parts", 100_000), ("key", -1), ("key", 2**63)])
def test_values_out_of_range_are_refused(option: str, value: int) -> None:
    with pytest.raises(InputError, match=rf"{option} is {value}.*--arms.partition.{option}"):
        Partition(**{option: value})
