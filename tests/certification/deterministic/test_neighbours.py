"""Votes of rows against every way of changing few of them."""

from itertools import combinations, product

import numpy as np
import pytest

from poison_and_defend.certification.deterministic import neighbour_vote, radius_poisons
from poison_and_defend.core.errors import InputError

CLASSES, LIMIT = 3, 3


def winner(weights: np.ndarray, labels: np.ndarray, trusted: np.ndarray) -> int:
    scores = [weights[labels == number].sum() + trusted[number] for number in range(CLASSES)]
    return int(np.argmax(scores))


def withstood(weights: np.ndarray, labels: np.ndarray, trusted: np.ndarray, relabel: bool) -> int:
    """By trying all rows, all labels that they may get, and no weight, half of it and all of it."""
    before = winner(weights, labels, trusted)
    choices = list(product((0.0, 0.5, 1.0), range(CLASSES) if relabel else [-1]))
    for poisons in range(1, LIMIT + 1):
        for rows in combinations(range(len(labels)), poisons):
            for changed in product(choices, repeat=poisons):
                other, names = weights.astype(np.float64), labels.copy()
                for row, (weight, label) in zip(rows, changed, strict=True):
                    other[row], names[row] = weight, names[row] if label < 0 else label
                if winner(other, names, trusted) != before:
                    return poisons - 1
    return LIMIT


@pytest.mark.parametrize("relabel", [False, True])
@pytest.mark.parametrize("kernel", ["radius", "bounded"])
def test_no_vote_falls_to_fewer_poisons_and_each_falls_to_one_more(
    kernel: str, relabel: bool, generator: np.random.Generator
) -> None:
    rows, images = (6, 12) if relabel else (8, 40)
    labels = generator.choice(CLASSES, rows, p=[0.5, 0.3, 0.2])
    weights = generator.random((images, rows))
    given = weights < 0.6 if kernel == "radius" else weights
    trusted = generator.integers(0, 6, size=(images, CLASSES)).astype(np.float64)
    found = neighbour_vote(given, labels, CLASSES, LIMIT, trusted=trusted, relabel=relabel)
    own = [(given[image], labels, trusted[image]) for image in range(images)]
    assert found.labels.tolist() == [winner(*one) for one in own]
    truth = [withstood(*one, relabel) for one in own]
    assert found.poisons.tolist() == truth and len(set(truth)) > 1


def test_ties_go_to_the_smaller_class_and_a_lead_of_k_withstands_k_or_one_less() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    near = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 0, 0, 1, 0, 0]], bool)
    found = neighbour_vote(near, labels, 2, 5)
    assert found.labels.tolist() == [0, 1, 0]
    assert found.poisons.tolist() == [3, 2, 0]
    # Six rows of two classes: every relabelled row costs a lead of two.
    assert neighbour_vote(near, labels, 2, 5, relabel=True).poisons.tolist() == [1, 1, 0]


def test_trusted_rows_cannot_be_taken_away() -> None:
    near, labels = np.array([[True, False, False]]), np.array([0, 1, 1])
    alone = neighbour_vote(near, labels, 2, 3)
    held = neighbour_vote(near, labels, 2, 3, trusted=[[2.5, 0.0]])
    assert (alone.poisons.tolist(), held.poisons.tolist()) == ([1], [3])
    assert neighbour_vote(near, labels, 2, 3, trusted=[[0.0, 9.0]]).labels.tolist() == [1]


def test_many_images_are_judged_as_each_alone(generator: np.random.Generator) -> None:
    weights, labels = generator.random((300, 50)), generator.integers(4, size=50)
    weights[:, labels == 1] **= 0.2
    together = neighbour_vote(weights, labels, 4, 20)
    apart = [neighbour_vote(row[None], labels, 4, 20) for row in weights]
    assert together.labels.tolist() == [int(one.labels[0]) for one in apart]
    assert together.poisons.tolist() == [int(one.poisons[0]) for one in apart]
    assert len(set(together.poisons.tolist())) > 3
    assert neighbour_vote(np.zeros((0, 50)), labels, 4, 20).poisons.shape == (0,)


def test_fractions_that_no_double_holds_are_no_lead() -> None:
    """Of scores 2.7 and 1.7 the lead is a little above 1, computed; one poison makes a tie, which the smaller class wins."""
    near, labels, trusted = np.array([[True, True]]), [0, 1], [[0.7, 1.7]]
    assert neighbour_vote(near, labels, 2, 10, trusted=trusted).poisons.tolist() == [0]
    assert neighbour_vote([[True, False]], labels, 2, 10, trusted=trusted).labels.tolist() == [0]


def test_a_hundred_thousand_small_weights_are_summed_with_all_digits() -> None:
    rows = 300_000
    weights, labels = np.r_[np.full(rows, 0.1), np.ones(29_999)], np.repeat([0, 1], [rows, 29_999])
    trusted = np.array([[0.0, 5e-7]])
    # The lead is 1 - 5e-7: ten poisons that take a tenth each are one too many, also where columns are summed one by one.
    together = neighbour_vote(np.stack([weights, weights]), labels, 2, 50, trusted=np.tile(trusted, (2, 1)))
    alone = neighbour_vote(weights[None], labels, 2, 50, trusted=trusted)
    assert alone.poisons.tolist() == [9] and together.poisons.tolist() == [9, 9]


@pytest.mark.parametrize(
    "given",
    [
        {"weights": [[0.5, 1.1]]},
        {"weights": [[-0.1, 1.0]]},
        {"weights": [0.5, 1.0]},
        {"labels": [0, 2]},
        {"labels": [0, -1]},
        {"limit": 0},
        {"trusted": [[1.0]]},
        {"trusted": [[1.0, np.inf]]},
    ],
)
def test_votes_that_are_none_are_refused(given: dict) -> None:
    with pytest.raises(InputError):
        neighbour_vote(**({"weights": [[0.5, 1.0]], "labels": [0, 1], "classes": 2, "limit": 3} | given))


def test_counts_within_a_radius_are_neighbour_votes_of_weights_0_and_1(generator: np.random.Generator) -> None:
    labels = generator.choice(CLASSES, 40, p=[0.5, 0.3, 0.2])
    near = generator.random((300, 40)) < generator.random((300, 1))
    added = generator.integers(0, 6, size=(300, CLASSES))
    counts = np.stack([near[:, labels == number].sum(1) for number in range(CLASSES)], 1) + added
    found = neighbour_vote(near, labels, CLASSES, 40, trusted=added)
    assert counts.argmax(1).tolist() == found.labels.tolist()
    # Where trusted rows lead by more than there are rows to change, the count of rows ends first.
    assert np.minimum(radius_poisons(counts), 40).tolist() == found.poisons.tolist()
    assert (
        radius_poisons(counts, relabel=True) <= neighbour_vote(near, labels, CLASSES, 40, trusted=added, relabel=True).poisons
    ).all()


@pytest.mark.parametrize("kind", ["moved", "added and removed", "relabelled"])
def test_counts_withstand_rows_that_come_and_go_and_halve_where_labels_change(kind: str) -> None:
    """Every step that one row can make, from all small counts: moved by one in a class, or from one class to another."""
    one = [np.eye(CLASSES, dtype=int)[c] * sign for c in range(CLASSES) for sign in (1, -1)]
    both = [np.eye(CLASSES, dtype=int)[a] - np.eye(CLASSES, dtype=int)[b] for a in range(CLASSES) for b in range(CLASSES)]
    steps = one if kind != "relabelled" else one + both
    tight = 0
    for counts in product(range(5), repeat=CLASSES):
        start, answer = np.array(counts), int(np.argmax(counts))
        promised = int(radius_poisons(start[None], relabel=kind == "relabelled")[0])
        reached = {tuple(counts)}
        for _ in range(promised):
            reached = {tuple(np.array(c) + step) for c in reached for step in steps}
            reached = {c for c in reached if min(c) >= 0}
            assert all(int(np.argmax(c)) == answer for c in reached)
        further = {tuple(np.array(c) + step) for c in reached for step in steps}
        tight += any(int(np.argmax(c)) != answer for c in further if min(c) >= 0)
    assert tight == 5**CLASSES
