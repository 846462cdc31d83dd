from itertools import combinations, product

import numpy as np
import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import FiniteAggregation, Partition
from poison_and_defend.defenses.voting.base import count_votes

KEYS, LABELS = torch.arange(200) * 7, torch.zeros(200, dtype=torch.int64)


def test_every_row_is_seen_by_as_many_models_as_asked_and_these_hold_its_bucket() -> None:
    vote = FiniteAggregation(parts=5, spread=3)
    parts = vote.parts(KEYS, LABELS, 2)
    assert len(parts) == 15
    seen = torch.zeros(15, 200, dtype=torch.bool)
    for model, rows in enumerate(parts):
        seen[model, rows] = True
    assert (seen.sum(0) == 3).all()
    # Rows of one bucket are seen by one set of models, and there are as many sets as buckets.
    held = {tuple(sorted(models)) for models in vote.holders.tolist()}
    assert {tuple(own.nonzero()[:, 0].tolist()) for own in seen.T} <= held and len(held) == 15


def test_one_model_a_row_is_the_partition() -> None:
    vote, plain = FiniteAggregation(parts=6, spread=1), Partition(parts=6)
    alone = [set(rows.tolist()) for rows in vote.parts(KEYS, LABELS, 2)]
    assert sorted(map(sorted, alone)) == sorted(sorted(rows.tolist()) for rows in plain.parts(KEYS, LABELS, 2))
    votes = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (6, 500)))
    assert torch.equal(vote.withstands(votes, 4, 200), plain.withstands(votes, 4, 200))


def test_no_change_of_as_many_buckets_turns_any_vote() -> None:
    """Six models, three of them on each bucket, against everything that their models could answer instead."""
    vote = FiniteAggregation(parts=2, spread=3)
    generator, tight = np.random.default_rng(1), 0
    for _ in range(25):
        votes = torch.from_numpy(generator.choice(3, 6, p=[0.7, 0.2, 0.1]))[:, None]
        winner, radius = int(vote.decide(votes, 3)), int(vote.withstands(votes, 3, 200))

        def turned(buckets: tuple[int, ...], votes: torch.Tensor = votes, winner: int = winner) -> bool:
            free = sorted(set(vote.holders[list(buckets)].flatten().tolist()))
            for answers in product(range(3), repeat=len(free)):
                other = votes.clone()
                other[free] = torch.tensor(answers, dtype=torch.int64)[:, None]
                if int(count_votes(other, 3).argmax(1)) != winner:
                    return True
            return False

        assert not any(turned(buckets) for buckets in combinations(range(6), radius))
        tight += any(turned(buckets) for buckets in combinations(range(6), min(6, radius + 1)))
    assert tight >= 20


@pytest.mark.parametrize("options", [{"parts": 1}, {"spread": 0}, {"parts": 300, "spread": 300}, {"key": -1}])
def test_values_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        FiniteAggregation(**options)
