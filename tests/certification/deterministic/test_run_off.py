"""Elections of few models against every way in which some of them may rank the classes."""

from itertools import combinations, permutations, product

import numpy as np

from poison_and_defend.certification.deterministic import Election, election, run_off

RANKINGS = [tuple(order) for order in permutations(range(3))]
"""Scores of three classes; every ranking is one."""


def winner(scores: np.ndarray) -> int:
    """Of one test image, from the rules: most named first, the smaller class where two are equal; then those two alone."""
    named = np.bincount(scores.argmax(1), minlength=scores.shape[1])
    one, other = sorted(sorted(range(len(named)), key=lambda number: (-named[number], number))[:2])
    return one if 2 * int((scores[:, one] >= scores[:, other]).sum()) >= len(scores) else other


def withstood(scores: np.ndarray, most: int) -> int:
    """How many models may rank as they like, up to ``most``."""
    before = winner(scores)
    for poisons in range(1, most + 1):
        for models in combinations(range(len(scores)), poisons):
            for answers in product(RANKINGS, repeat=poisons):
                turned = scores.copy()
                turned[list(models)] = answers
                if winner(turned) != before:
                    return poisons - 1
    return most


def test_no_small_election_falls_to_fewer_models_than_it_is_said_to(generator: np.random.Generator) -> None:
    scores = generator.permuted(np.tile(np.arange(3), (7, 60, 1)), axis=2)
    # Some images on which most agree, or nothing would be withstood.
    scores[:5, 30:] = scores[0, 30:]
    winners, found = run_off(election(scores))
    assert winners.tolist() == [winner(scores[:, image]) for image in range(60)]
    truth = np.array([withstood(scores[:, image], 2) for image in range(60)])
    assert (np.minimum(found, 2) <= truth).all() and set(truth) == {0, 1, 2}
    assert (np.minimum(found, 2) == truth).mean() > 0.9


def test_equal_scores_rank_the_smaller_class_higher() -> None:
    votes = election(np.zeros((3, 1, 3)))
    assert votes.first.tolist() == [[3, 0, 0]] and votes.prefer[0].tolist() == [[0, 3, 3], [0, 0, 3], [0, 0, 0]]
    assert run_off(votes)[0].tolist() == [0]


def test_two_classes_are_a_majority_of_all_models() -> None:
    first = np.array([[10, 4], [4, 10], [7, 7]])
    prefer = np.zeros((3, 2, 2), np.int64)
    prefer[:, 0, 1], prefer[:, 1, 0] = first.T
    winners, found = run_off(Election(first, prefer))
    assert (winners.tolist(), found.tolist()) == ([0, 1, 0], [3, 2, 0])
    assert run_off(Election(first, prefer), touched=2)[1].tolist() == [1, 1, 0]
