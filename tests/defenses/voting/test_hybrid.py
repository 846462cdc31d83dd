from typing import Any

import numpy as np
import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import Hybrid, Rows, TrustedOnly


def clusters(count: int, seed: int, spread: float = 1.5) -> Rows:
    """Three classes of six features, which a few rows do not tell apart well."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centres = 2 * torch.eye(6)[:3]
    return Rows(centres[labels] + spread * torch.randn(count, 6, generator=generator), labels)


def right(vote: Hybrid | TrustedOnly, received: Rows, trusted: Rows, tested: Rows) -> float:
    return float((vote.read(received, trusted, tested.features, 3)[0] == tested.labels).float().mean())


def test_a_changed_row_turns_one_head_at_most_and_the_radius_is_that_of_the_partition() -> None:
    received, trusted, tested = clusters(120, 0), clusters(12, 1), clusters(50, 2)
    vote = Hybrid(parts=12, trusted=12)
    answers, held = vote.read(received, trusted, tested.features, 3)
    assert int(held.max()) >= 3
    generator = np.random.default_rng(0)
    for count in (1, 2, 3):
        for _ in range(10):
            features = received.features.clone()
            places = torch.from_numpy(generator.choice(120, count, replace=False))
            features[places] = 50 * torch.randn(count, 6)
            now = vote.read(Rows(features, received.labels), trusted, tested.features, 3)[0]
            assert torch.equal(now[held >= count], answers[held >= count])


def test_received_rows_help_trusted_ones_and_trusted_rows_help_heads_of_few() -> None:
    received, trusted, tested = clusters(150, 3), clusters(12, 4), clusters(600, 5)
    assert right(Hybrid(5, 12), received, trusted, tested) > right(TrustedOnly(12), received, trusted, tested) + 0.03
    # A received row for each head, which would know one class without the trusted ones.
    assert right(Hybrid(150, 12), received, trusted, tested) > 1 / 3 + 0.15


def test_no_received_row_touches_what_trusted_rows_say_alone() -> None:
    trusted, tested = clusters(12, 4), clusters(60, 5)
    one, other = (TrustedOnly(12).read(clusters(30, seed), trusted, tested.features, 3) for seed in (6, 7))
    assert torch.equal(one[0], other[0]) and one[1].tolist() == [30] * 60


def test_parts_depend_on_the_key_and_not_on_what_is_in_the_rows() -> None:
    received, trusted, tested = clusters(120, 0), clusters(12, 1), clusters(200, 2)
    answers = [Hybrid(12, 12, key).read(received, trusted, tested.features, 3)[1] for key in (0, 0, 1)]
    assert torch.equal(answers[0], answers[1]) and not torch.equal(answers[0], answers[2])


@pytest.mark.parametrize("options", [{"parts": 1}, {"trusted": 1}, {"key": -1}])
def test_values_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))}.*--arms.hybrid.{next(iter(options))}"):
        Hybrid(**options)


def test_fewer_rows_than_heads_and_too_few_trusted_rows_are_refused() -> None:
    with pytest.raises(InputError, match=r"parts is 31, and there are 30 rows: make fewer parts \(--arms.hybrid.parts\)"):
        Hybrid(31).read(clusters(30, 0), clusters(12, 1), torch.zeros(1, 6), 3)
    with pytest.raises(InputError, match=r"trusted is 1: it must be at least 2 \(--arms.trusted_only.trusted\)"):
        TrustedOnly(1)
