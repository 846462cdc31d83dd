from itertools import combinations

import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import Neighbours, Rows

NONE = Rows(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))


def test_rows_within_the_radius_count_and_ties_go_to_the_smaller_class() -> None:
    rows = torch.tensor([[1.0, 0], [2, 0.1], [0, 3], [0.1, 1], [-1, 0]])
    labels, tested = torch.tensor([2, 2, 1, 1, 0]), torch.tensor([[5.0, 0], [0, 0.2], [1, 1]])
    answers, held = Neighbours(radius=0.7).read(Rows(rows, labels), NONE, tested, 3)
    # The third sees all four; the tie is class 1's.
    assert answers.tolist() == [2, 1, 1] and held.tolist() == [1, 1, 0]


def test_no_changed_rows_of_as_many_turn_an_answer_and_one_more_turns_some() -> None:
    generator, vote, tight = torch.Generator().manual_seed(0), Neighbours(radius=0.2), 0
    for _ in range(30):
        rows, tested = torch.randn(8, 3, generator=generator), torch.randn(1, 3, generator=generator)
        labels = torch.randint(3, (8,), generator=generator)
        answers, held = vote.read(Rows(rows, labels), NONE, tested, 3)

        def turns(count: int, rows=rows, labels=labels, tested=tested, answer=int(answers)) -> bool:
            for places in combinations(range(8), count):
                # Each poison is a neighbour or none: the test image itself, or its opposite.
                for sides in range(2**count):
                    other = rows.clone()
                    for bit, place in enumerate(places):
                        other[place] = tested[0] * (1 if sides >> bit & 1 else -1)
                    if int(vote.read(Rows(other, labels), NONE, tested, 3)[0]) != answer:
                        return True
            return False

        assert not turns(int(held))
        tight += turns(int(held) + 1)
    assert tight >= 25


def test_lengths_of_features_do_not_matter() -> None:
    rows, tested = torch.rand(20, 4), torch.rand(5, 4)
    labels = torch.arange(20) % 3
    one, other = (Neighbours(0.9).read(Rows(rows * scale, labels), NONE, tested * 3, 3) for scale in (1.0, 100.0))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


@pytest.mark.parametrize("radius", [-1, 1, 1.5])
def test_a_radius_that_is_no_cosine_is_refused(radius: float) -> None:
    with pytest.raises(InputError, match=f"radius is {radius:g}: a cosine above -1 and below 1"):
        Neighbours(radius)
