"""Which rows go where, by keyed row numbers alone: no image and no label has a say."""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def keyed_order(n: int, key: int, purpose: int) -> Rows:
    """Row numbers ``(n,)`` in an order that depends on ``n``, the key and the purpose."""
    return np.random.default_rng(np.random.SeedSequence([key, purpose])).permutation(n)


def parts(n: int, m: int, key: int) -> Rows:
    """Disjoint parts of ``m`` rows each, ``(n // m, m)``; fewer than ``m`` rows are in none."""
    count = n // m
    return keyed_order(n, key, 1)[: count * m].reshape(count, m)


def overlapping(n: int, m: int, spread: int, key: int) -> tuple[Rows, Rows]:
    """Models that share buckets, as in finite aggregation: every bucket is seen by ``spread`` models, every model sees as many.

    Args:
        n: Rows.
        m: Rows of a model, at least ``spread``.
        spread: Models of a bucket.
        key: Of the row numbers.

    Returns:
        Rows of each model ``(models, spread * (m // spread))``, and the models that see each bucket ``(models, spread)``.
    """
    buckets = parts(n, m // spread, key)
    count = len(buckets)
    # Fixed shifts, so that no two models share more buckets than they must.
    shifts = keyed_order(count, key, 2)[:spread]
    holders = (np.arange(count)[:, None] + shifts) % count
    held = (np.arange(count)[:, None] - shifts) % count
    return buckets[held].reshape(count, -1), holders
