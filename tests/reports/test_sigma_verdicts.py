from math import sqrt

import pytest

from poison_and_defend.reports.intervals import paired_change, paired_interval
from poison_and_defend.reports.sigma_verdicts import (
    Sample,
    SigmaRow,
    by_estimate,
    describe,
    describe_verdict,
    judge,
    recommended,
)


def changed(lost: int, gained: int, kept: int) -> tuple[list[float], list[float]]:
    """Images read before and after: right and wrong, wrong and right, right twice."""
    return [1.0] * lost + [0.0] * gained + [1.0] * kept, [0.0] * lost + [1.0] * gained + [1.0] * kept


def row(sigma: float, lost: int, gained: int, kept: int, trained: float | None = None, max_drop: float = 0.02) -> SigmaRow:
    return judge(sigma, *changed(lost, gained, kept), max_drop, trained)


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ((2, 2, 1996), "within"),
        ((0, 0, 100), "within"),
        ((200, 0, 800), "beyond"),
        ((4, 4, 82), "unknown"),
        ((0, 0, 60), "unknown"),
    ],
)
def test_a_verdict_is_where_the_whole_interval_lies(counts: tuple[int, int, int], verdict: str) -> None:
    found = row(0.1, *counts)
    assert found["verdict"] == verdict
    assert {"within": found["low"] >= -0.02, "beyond": found["high"] < -0.02}.get(
        verdict, found["low"] < -0.02 <= found["high"]
    )
    assert found["accuracy"] == pytest.approx((counts[1] + counts[2]) / sum(counts))
    assert found["change"] == pytest.approx((counts[1] - counts[0]) / sum(counts))


def test_the_interval_is_that_of_pairs() -> None:
    before, after = changed(5, 3, 40)
    found = row(0.1, 5, 3, 40)
    pairs = paired_change([(bool(one), bool(two)) for one, two in zip(before, after, strict=True)])
    assert (found["low"], found["high"]) == (pairs["low"], pairs["high"])
    # Agresti and Min: half a pair more in each of the four cells.
    change, spread = (3 - 5) / 50, (5.5 + 3.5) / 50
    margin = 1.959964 * sqrt((spread - change**2) / 50)
    assert (found["low"], found["high"]) == pytest.approx((change - margin, change + margin))


@pytest.mark.parametrize("counts", [(4, 4, 82), (0, 0, 60), (12, 2, 400), (3, 0, 60), (1, 0, 59)])
def test_as_many_images_as_are_said_would_tell_and_one_fewer_would_not(counts: tuple[int, int, int]) -> None:
    found, n = row(0.1, *counts), sum(counts)
    needed = found["images_needed"]
    assert found["verdict"] == "unknown" and needed is not None and needed > n
    mean, square = (counts[1] - counts[0]) / n, (counts[0] + counts[1]) / n
    decided = [low >= -0.02 or high < -0.02 for low, high in (paired_interval(m, mean, square) for m in (needed - 1, needed))]
    assert decided == [False, True]


def test_a_loss_of_the_bound_itself_is_never_told() -> None:
    found = row(0.1, 2, 0, 98)
    assert found["verdict"] == "unknown" and found["images_needed"] is None
    assert describe([found], 0.02, Sample(100, 100, 100, None)).endswith("cannot tell: 0.1 (no number would)")


def test_the_recommended_one_stands_on_all_below_it() -> None:
    within, unknown, beyond = (2, 2, 1996), (4, 4, 82), (200, 0, 800)
    rows = [row(0.1, *within), row(0.2, *within), row(0.3, *unknown), row(0.4, *within), row(0.5, *beyond)]
    assert (recommended(rows), by_estimate(rows, 0.02)) == (0.2, 0.4)
    assert recommended(rows[2:]) is None and by_estimate(rows[4:], 0.02) is None


def test_what_is_said_of_ninety_images() -> None:
    """A hundred and eighty photographs, half of them tested: a loss of one in ninety is not known to be below two percent."""
    rows = [row(0.05, 0, 0, 90), row(0.1, 5, 4, 81, trained=0.3), row(0.25, 20, 0, 70, trained=0.3), row(0.5, 60, 0, 30, 0.3)]
    assert [found["verdict"] for found in rows] == ["unknown", "unknown", "beyond", "beyond"]
    assert describe(rows, 0.02, Sample(90, 180, 5000, 0.3)) == (
        "of no sigma is it known, as of all below it, that it costs at most 2.0% of accuracy\n"
        "by what was measured alone it would be --sigma 0.1\n"
        "cost more than 2.0% of accuracy: 0.25, 0.5\n"
        "90 tested images cannot tell: 0.05 (about 96 would), 0.1 (about 4,900 would); the set has 5,000 in all\n"
        "the denoiser was trained on noise up to 0.3 only, and not on: 0.5"
    )
    assert [describe_verdict(found) for found in rows] == [
        "cannot tell (96 would)",
        "cannot tell (4,900 would)",
        "costs more",
        "costs more, not trained on",
    ]


def test_the_sample_that_would_tell_is_given_as_an_option() -> None:
    text = describe([row(0.05, 0, 0, 60)], 0.02, Sample(60, 121, 5000, None)).splitlines()[-1]
    assert text == "60 tested images cannot tell: 0.05 (about 96 would); --sample 200 for all of them"


def test_what_is_said_of_many_images() -> None:
    rows = [row(0.1, 2, 2, 1996), row(0.25, 4, 1, 1995), row(0.5, 400, 0, 1600)]
    assert describe(rows, 0.02, Sample(2000, 2000, 9000, None)) == (
        "recommended: --sigma 0.25, the largest that is known, like all below it, to cost at most 2.0% of accuracy\n"
        "cost at most 2.0% of accuracy: 0.1, 0.25\n"
        "cost more than 2.0% of accuracy: 0.5"
    )
    assert describe(rows[2:], 0.02, Sample(2000, 2000, 9000, None)) == (
        "every sigma costs more than 2.0% of accuracy: try smaller ones (--sigmas) or another denoiser (--denoiser)\n"
        "cost more than 2.0% of accuracy: 0.5"
    )
