from itertools import product
from typing import Any

import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import Kernel, Neighbours, Rows

NONE = Rows(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))


def test_a_row_weighs_the_sigmoid_of_its_cosine() -> None:
    # Cosines .8 for class 0, .6 and .5 for class 1: at radius .5 and width .1 sigmoids of 3, 1 and 0, which are .953, .731, .5.
    rows = torch.tensor([[0.8, 0.6, 0], [0.6, 0.8, 0], [0.5, 0.75**0.5, 0]]) * 7
    labels, tested = torch.tensor([0, 1, 1]), torch.tensor([[2.0, 0, 0], [1.0, 0, 0]])
    answers, held = Kernel(0.5, 0.1).read(Rows(rows, labels), NONE, tested, 2)
    # A lead of .278; a changed row of class 1 takes .731 of it.
    assert answers.tolist() == [1, 1] and held.tolist() == [0, 0]
    # Six more at .5 make it 3.278; what changed rows can take is .731 and then .5 each.
    more = Rows(torch.cat([rows, rows[2:].repeat(6, 1)]), torch.cat([labels, torch.ones(6, dtype=torch.int64)]))
    answers, held = Kernel(0.5, 0.1).read(more, NONE, tested, 2)
    lead, taken = 0.7311 + 7 * 0.5 - 0.9526, [0.7311, *[0.5] * 7]
    assert answers.tolist() == [1, 1]
    assert held.tolist() == [max(k for k in range(9) if sum(taken[:k]) < lead)] * 2 == [6, 6]


def test_a_steep_kernel_is_radius_neighbours() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, tested = torch.randn(60, 5, generator=generator), torch.randn(40, 5, generator=generator)
    labels = torch.randint(3, (60,), generator=generator)
    steep = Kernel(0.2, 1e-6).read(Rows(rows, labels), NONE, tested, 3)
    plain = Neighbours(0.2).read(Rows(rows, labels), NONE, tested, 3)
    assert torch.equal(steep[0], plain[0])
    # Rounding may cost it one changed row.
    assert ((plain[1] - steep[1]).abs() <= 1).all() and int(plain[1].max()) > 2


def test_no_changed_rows_of_as_many_turn_an_answer() -> None:
    generator, vote, turned = torch.Generator().manual_seed(1), Kernel(0.2, 0.2), 0
    for _ in range(20):
        rows, tested = torch.randn(9, 3, generator=generator), torch.randn(1, 3, generator=generator)
        labels = torch.randint(2, (9,), generator=generator)
        answer, held = vote.read(Rows(rows, labels), NONE, tested, 2)
        for pair in product(range(9), repeat=2):
            changed = len(set(pair))
            other = rows.clone()
            for place in set(pair):
                # Worst: a row of the winner far away, one of the rival on the test image.
                other[place] = tested[0] * (-1 if labels[place] == answer[0] else 1)
            same = vote.read(Rows(other, labels), NONE, tested, 2)[0].equal(answer)
            assert same or changed > int(held)
            turned += not same and changed == int(held) + 1
    assert turned > 20


def test_trusted_rows_say_how_likeness_is_measured() -> None:
    generator = torch.Generator().manual_seed(2)
    # One direction of a hundred times the size says nothing of the class.
    labels = torch.arange(80) % 2
    features = torch.randn(80, 4, generator=generator) * torch.tensor([100.0, 1, 1, 1])
    features[:, 1] += 8 * labels - 4
    received, trusted = (Rows(features[part], labels[part]) for part in (slice(0, 40), slice(40, 60)))
    right = {
        count: float((Kernel(0.3, 0.1, count).read(received, trusted, features[60:], 2)[0] == labels[60:]).float().mean())
        for count in (0, 20)
    }
    assert right[20] == 1.0 and right[0] < 0.8
    assert Kernel(trusted=20).told(None) == "20 trusted rows" and Kernel().told(5) == ""


@pytest.mark.parametrize("options", [{"radius": 1}, {"radius": -1.5}, {"width": 0.0}, {"width": float("nan")}, {"trusted": -1}])
def test_values_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))}.*--arms.kernel.{next(iter(options))}"):
        Kernel(**options)
