import numpy as np
import pytest

from poison_and_defend.attacks.threat.setups import Setup, draw_setups
from poison_and_defend.core.errors import InputError

TRAIN = np.random.default_rng(0).permutation(np.repeat([0, 2, 3, 7], 12))
TEST = np.random.default_rng(1).permutation(np.repeat([0, 2, 3, 7], 4))


def draw(num_setups: int = 40, **rest) -> list[Setup]:
    return draw_setups(TRAIN, TEST, num_setups=num_setups, num_poisons=6, seed=3, in_turn=True, **rest)


def test_every_class_has_its_turn_in_order_and_again() -> None:
    assert [setup.adversarial_label for setup in draw(10)] == [0, 2, 3, 7, 0, 2, 3, 7, 0, 2]


def test_targets_are_spread_over_the_other_classes() -> None:
    pairs = {(setup.adversarial_label, setup.target_label) for setup in draw(400)}
    assert pairs == {(a, b) for a in (0, 2, 3, 7) for b in (0, 2, 3, 7) if a != b}
    for setup in draw():
        assert TEST[setup.target_index] == setup.target_label
        assert (TRAIN[setup.base_indices] == setup.adversarial_label).all() and len(set(setup.base_indices.tolist())) == 6


def test_a_setup_does_not_depend_on_how_many_are_drawn() -> None:
    for few, many in zip(draw(5), draw(9), strict=False):
        assert (few.target_index, few.seed, few.base_indices.tolist()) == (
            many.target_index,
            many.seed,
            many.base_indices.tolist(),
        )


def test_several_targets_are_of_one_class() -> None:
    for setup in draw(8, num_targets=3):
        assert len(set(setup.target_indices)) == 3 and set(TEST[list(setup.target_indices)]) == {setup.target_label}


def test_drawn_classes_are_those_of_before() -> None:
    counts = {"num_setups": 6, "num_poisons": 6, "seed": 3}
    first, second = draw_setups(TRAIN, TEST, **counts), draw_setups(TRAIN, TEST, **counts, in_turn=False)
    assert [s.target_index for s in first] == [s.target_index for s in second] == [4, 10, 15, 5, 13, 12]


def test_test_images_of_one_class_alone_are_refused() -> None:
    with pytest.raises(InputError, match=r"every test image is of class 0.*--data"):
        draw_setups(TRAIN, np.zeros(5, np.int64), num_setups=1, num_poisons=1, seed=0, in_turn=True)
