from dataclasses import replace

import pytest
import torch

from poison_and_defend.certificate.any_change.ballots import Rule
from poison_and_defend.certificate.any_change.planner import (
    candidates,
    choose,
    prescribed,
    share_certified,
    trusted_weight,
)
from poison_and_defend.certificate.any_change.reference import Reference
from poison_and_defend.certificate.any_change.task import Votes
from poison_and_defend.core.errors import InputError

EVERYTHING = Votes(votes=["neighbours", "kernel", "partition", "run_off", "aggregation", "hybrid"])


def clusters(classes: int, each: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(each)
    return torch.randn(classes, 16, generator=generator)[labels] + torch.randn(len(labels), 16, generator=generator), labels


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.of(*clusters(8, 80), key=1)


def test_votes_are_chosen_on_classes_that_the_space_was_not_learnt_from(reference: Reference) -> None:
    features, labels = clusters(8, 80)
    assert reference.labels is not None and len(reference.places) == 320 and reference.labels.unique().tolist() == [0, 1, 2, 3]
    # Another first half gives another space; another second one does not.
    for changed, same in ((slice(0, 320), False), (slice(320, 640), True)):
        other = features.clone()
        other[changed] *= torch.linspace(1, 3, 16)
        assert torch.equal(Reference.of(other, labels, 1).space.map, reference.space.map) == same


def test_a_radius_holds_its_share(reference: Reference) -> None:
    likeness = reference.places @ reference.places.T
    pairs = likeness[~torch.eye(len(likeness), dtype=torch.bool)]
    for share in (0.01, 0.1, 0.5):
        assert float((pairs > reference.radius(share)).float().mean()) == pytest.approx(share, abs=2e-3)


def test_rules_follow_from_numbers_alone() -> None:
    features, _ = clusters(8, 80)
    unlabelled = Reference.of(features, None, 1)
    assert unlabelled.labels is None
    found = prescribed(unlabelled, EVERYTHING, [1, 25, 2500], 50_000, 10, trusted=250)
    assert set(found) == {"trusted", *EVERYTHING.votes}
    assert [rule.m for rule, _ in found["partition"]] == [100, 100, 10]
    assert [rule.weight for rule, _ in found["neighbours"]] == pytest.approx([0.05 + 8 / 5000, 0.09, 2.0])
    assert {rule.radius for rule, _ in found["neighbours"]} == {unlabelled.radius(0.1)}
    assert all(share is None for own in found.values() for _, share in own)
    alone = prescribed(unlabelled, EVERYTHING, [1], 50_000, 10, trusted=0)
    assert "trusted" not in alone and "hybrid" not in alone and alone["neighbours"][0][0].weight == 0
    given = prescribed(unlabelled, Votes(radii=[0.25], m=[7]), [1, 5], 600, 10, trusted=0)
    assert [rule.radius for rule, _ in given["neighbours"]] == [0.25] * 2 and [r.m for r, _ in given["partition"]] == [7] * 2


def test_every_family_is_tried_with_all_its_settings(reference: Reference) -> None:
    asked = Votes(votes=EVERYTHING.votes, shares=[0.1, 0.2], m=[5, 10])
    rules = candidates(reference, asked, trusted=True)
    assert len(rules) == len(set(rules)) and not [r for r in rules if r.weight]
    counts = {family: len([r for r in rules if r.family == family]) for family in EVERYTHING.votes}
    assert counts == {"neighbours": 2, "kernel": 4, "partition": 2, "run_off": 2, "aggregation": 2, "hybrid": 2}
    assert not [r for r in candidates(reference, asked, trusted=False) if r.family in ("hybrid", "trusted")]


def test_the_best_of_each_and_of_all_is_taken_at_as_large_a_share_of_poisons(reference: Reference) -> None:
    asked = Votes(shares=[0.05, 0.2, 0.4], m=[5, 10])
    ks = [10, 100, 1000]
    choice = choose(reference, asked, ks, 5000, 20, 1)
    votes, tested, labels, scale = reference.tried(20, 1, ks, 5000)
    assert scale == pytest.approx((320 - 64 - 20) / 4 / 5000)
    found = votes.judge(candidates(reference, asked, trusted=True), tested)
    for number, k in enumerate(ks):
        shares = {r: share_certified(v.labels, v.poisons, labels, k * scale) for r, v in found.items()}
        for family in ("neighbours", "partition", "hybrid"):
            rule, share = choice[family][number]
            assert rule.weight == (trusted_weight(k, 5000, 5) if family == "neighbours" else 0)
            assert share == shares[replace(rule, weight=0.0)] == max(own for r, own in shares.items() if r.family == family)
        # Trusted rows alone, and heads that see them, are not compared with the others.
        assert choice["planned"][number][1] == max(own for r, own in shares.items() if r.family not in ("trusted", "hybrid"))
    assert isinstance(choice["planned"][0][0], Rule)


def test_parts_that_the_reference_has_no_room_for_are_refused(reference: Reference) -> None:
    with pytest.raises(InputError, match=r"m is 100: parts of 1 to 85 images can be tried on the reference"):
        choose(reference, Votes(m=[10, 100]), [1], 100, 0, 1)


def test_a_reference_that_is_too_small_is_refused(reference: Reference) -> None:
    with pytest.raises(
        InputError, match=r"trusted is 250: of the reference's 320 images .* 64 are tested and 6 would be received"
    ):
        choose(reference, Votes(), [1], 100, 250, 1)
