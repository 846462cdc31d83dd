"""The two filters that are no defences: one drops rows by chance, one knows which rows to drop."""

import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import PerfectFilter, RandomFilter, SpectralSignatures
from tests.received_sets import judged, received_set, workshop_of

LABELS = torch.arange(90) % 3


@pytest.mark.parametrize(("told", "options"), [(5, {}), (7, {"factor": 1.0}), (3, {"bound": 9}), (1, {"factor": 1.99})])
def test_as_many_rows_of_each_class_go_as_spectral_signatures_drop(told: int, options: dict) -> None:
    features = torch.randn(90, 4, generator=torch.Generator().manual_seed(0))
    others, own = (judged(kind(**options), features, LABELS, told) for kind in (SpectralSignatures, RandomFilter))
    for label in range(3):
        counts = [int((~verdict.kept[label == LABELS]).sum()) for verdict in (own, others)]
        assert counts[0] == counts[1] > 0
    assert not torch.equal(own.kept, others.kept)


def test_which_rows_go_depends_on_the_seed_and_on_no_image() -> None:
    bright = torch.full((90, 1, 2, 2), 255, dtype=torch.uint8)
    first = judged(RandomFilter(), None, LABELS, 5)
    assert torch.equal(first.scores, judged(RandomFilter(), None, LABELS, 5, images=bright).scores)
    assert not torch.equal(first.kept, judged(RandomFilter(), None, LABELS, 5, seed=1).kept)
    # Of two seeds that differ in their upper half alone, as setups' may, both count.
    assert not torch.equal(first.kept, judged(RandomFilter(), None, LABELS, 5, seed=2**40).kept)


def test_every_row_goes_as_often_as_any_other() -> None:
    count = sum(~judged(RandomFilter(), None, LABELS, 10, seed=seed).kept for seed in range(400))
    # Half of each class each time: 200 of 400, of which six standard deviations are 60.
    assert count.min() > 140 and count.max() < 260 and count.sum() == 400 * 45


def test_chance_asks_for_nothing_and_is_told_the_bound() -> None:
    assert RandomFilter.needs == "nothing" and RandomFilter().told(5) == "5 poisons of a class at most"
    with pytest.raises(InputError, match=r"random_filter must be told.*--arms.random_filter.bound"):
        RandomFilter().check_set(LABELS, None)
    with pytest.raises(InputError, match=r"random_filter would drop 30 rows of each class and class 0 has 30"):
        RandomFilter().check_set(LABELS, 20)


def test_the_perfect_filter_drops_the_poisons_and_nothing_else() -> None:
    poisons = torch.arange(90) % 7 == 3
    verdict = judged(PerfectFilter(), None, LABELS, oracle_poisons=poisons)
    assert torch.equal(verdict.kept, ~poisons) and torch.equal(verdict.scores, poisons.float())
    nobody = judged(PerfectFilter(), None, LABELS, oracle_poisons=torch.zeros(90, dtype=torch.bool))
    assert nobody.kept.all()


def test_the_perfect_filter_says_what_it_is_told_and_refuses_to_guess() -> None:
    assert PerfectFilter.needs == "nothing"
    assert PerfectFilter().told(25) == PerfectFilter().told(None) == "which rows are poisoned"
    with pytest.raises(InputError, match=r"perfect_filter must be told which rows are poisoned.*--defenses"):
        PerfectFilter().judge(received_set(LABELS, told=5), workshop_of())
