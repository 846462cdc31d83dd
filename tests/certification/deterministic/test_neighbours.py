"""Votes of rows against every way of changing few of them."""

from itertools import combinations, product

import numpy as np
import pytest

from poison_and_defend.certification.deterministic import neighbour_vote
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
