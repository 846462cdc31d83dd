import numpy as np
import pytest

from poison_and_defend.certificate.any_change.rows import keyed_order, overlapping, parts


@pytest.mark.parametrize(("n", "m"), [(10, 2), (103, 10), (50, 25)])
def test_parts_are_disjoint_and_follow_from_numbers_alone(n: int, m: int) -> None:
    found = parts(n, m, 7)
    assert found.shape == (n // m, m) and len(np.unique(found)) == found.size
    assert (parts(n, m, 7) == found).all() and (parts(n, m, 8) != found).any()


def test_orders_for_different_purposes_are_different() -> None:
    assert sorted(keyed_order(50, 0, 1)) == list(range(50))
    assert (keyed_order(50, 0, 1) != keyed_order(50, 0, 2)).any()


@pytest.mark.parametrize("spread", [2, 3, 4])
def test_a_row_is_seen_by_the_models_that_hold_its_bucket_and_by_no_other(spread: int) -> None:
    rows, holders = overlapping(240, 12, spread, 3)
    buckets = parts(240, 12 // spread, 3)
    assert rows.shape == (len(buckets), 12) and holders.shape == (len(buckets), spread)
    for number, bucket in enumerate(buckets):
        seen = [model for model, own in enumerate(rows) if set(bucket) <= set(own)]
        partly = [model for model, own in enumerate(rows) if set(bucket) & set(own)]
        assert seen == partly == sorted(holders[number])
