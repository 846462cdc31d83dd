"""Against every way of turning few models' votes."""

from itertools import combinations, product

import numpy as np
import pytest

from poison_and_defend.certification.deterministic import aggregation_poisons, partition_poisons
from poison_and_defend.core.errors import InputError

CLASSES = 3


def survives(votes: tuple[int, ...], parts: int) -> bool:
    """Whether no way of turning the votes of so many parts changes the answer, by trying the worst one for each class."""
    label = int(np.argmax(votes))
    for other in range(len(votes)):
        if other != label:
            turned = list(votes)
            moved = min(parts, votes[label])
            turned[label] -= moved
            turned[other] += moved
            if int(np.argmax(turned)) != label:
                return False
    return True


def test_partitions_by_trying_all_small_votes() -> None:
    for votes in product(range(8), repeat=3):
        if sum(votes) == 0:
            continue
        poisons, exchanges = int(partition_poisons([votes])[0]), int(partition_poisons([votes], touched=2)[0])
        assert survives(votes, poisons) and not survives(votes, poisons + 1)
        # Of parts by contents an exchange may turn two.
        assert survives(votes, 2 * exchanges) and not survives(votes, 2 * exchanges + 2)


def test_ties_go_to_the_smaller_class() -> None:
    assert partition_poisons([[10, 6, 0], [6, 10, 0], [5, 5, 0]]).tolist() == [2, 1, 0]
    assert partition_poisons([[6, 3, 1], [4, 6, 0], [5, 6, 0]]).tolist() == [1, 0, 0]
    assert partition_poisons([[50, 0], [0, 50]], touched=2).tolist() == [12, 12]


def counted(predictions: np.ndarray) -> int:
    return int(np.bincount(predictions, minlength=CLASSES).argmax())


def withstood(predictions: np.ndarray, held_by: np.ndarray) -> int:
    """The largest number of buckets whose models may answer anything, by trying all of them."""
    label = counted(predictions)
    for poisons in range(1, len(held_by) + 1):
        for buckets in combinations(range(len(held_by)), poisons):
            models = sorted({int(model) for bucket in buckets for model in held_by[bucket]})
            for answers in product(range(CLASSES), repeat=len(models)):
                turned = predictions.copy()
                turned[models] = answers
                if counted(turned) != label:
                    return poisons - 1
    return len(held_by)


@pytest.mark.parametrize("shifts", [(0,), (0, 1), (0, 2)])
def test_overlapping_parts_against_all_changes(shifts: tuple[int, ...], generator: np.random.Generator) -> None:
    models = 6
    held_by = (np.arange(models)[:, None] + np.array(shifts)) % models
    predictions = generator.choice(CLASSES, size=(models, 40), p=[0.6, 0.25, 0.15])
    found = aggregation_poisons(predictions, held_by, CLASSES)
    truth = np.array([withstood(column, held_by) for column in predictions.T])
    assert (found <= truth).all() and len(set(truth)) > 1
    # A model in two buckets is counted twice, which seldom matters.
    assert (found == truth).mean() > (0.99 if len(shifts) == 1 else 0.6)


def test_disjoint_buckets_are_a_partition(generator: np.random.Generator) -> None:
    predictions = generator.integers(10, size=(50, 300))
    predictions[:30] = generator.integers(10, size=300)
    counts = (predictions[:, :, None] == np.arange(10)).sum(0)
    found = aggregation_poisons(predictions, np.arange(50)[:, None], 10)
    assert found.tolist() == partition_poisons(counts).tolist() and found.max() > 5


@pytest.mark.parametrize(("votes", "touched"), [([[5]], 1), ([[2.9, 0.9]], 1), ([5, 3], 1), ([[5, 3]], 0)])
def test_votes_that_are_none_are_refused(votes: list, touched: int) -> None:
    with pytest.raises(InputError):
        partition_poisons(votes, touched)


@pytest.mark.parametrize("held_by", [[[3]], [[-1]], [0], np.zeros((2, 0), int)])
def test_buckets_that_nobody_holds_are_refused(held_by: list) -> None:
    with pytest.raises(InputError, match="holders of buckets"):
        aggregation_poisons([[0], [1], [1]], held_by, 2)
    with pytest.raises(InputError, match="predictions"):
        aggregation_poisons([[0], [2], [1]], [[0]], 2)
