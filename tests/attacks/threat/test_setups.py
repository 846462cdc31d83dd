import json
from pathlib import Path

import numpy as np
import pytest

from poison_and_defend.attacks.threat.setups import Setup, draw_setups, setup_seed
from poison_and_defend.core.errors import InputError

TRAIN = np.random.default_rng(0).permutation(np.repeat(np.arange(5), 12))
TEST = np.random.default_rng(1).permutation(np.repeat(np.arange(5), 4))


def draw(num_setups: int = 40, num_poisons: int = 6, seed: int = 3) -> list[Setup]:
    return draw_setups(TRAIN, TEST, num_setups=num_setups, num_poisons=num_poisons, seed=seed)


def values(setup: Setup) -> tuple:
    return (*(v for k, v in vars(setup).items() if k not in ("base_indices", "train_rows")), *setup.base_indices.tolist())


def test_same_seed_same_setups_and_another_seed_others() -> None:
    assert list(map(values, draw())) == list(map(values, draw()))
    assert list(map(values, draw())) != list(map(values, draw(seed=4)))


def test_a_setup_does_not_depend_on_how_many_are_drawn() -> None:
    assert list(map(values, draw(5))) == list(map(values, draw(40)))[:5]


def test_target_and_bases_agree_with_the_labels() -> None:
    for setup in draw():
        assert TEST[setup.target_index] == setup.target_label
        assert setup.target_label != setup.adversarial_label
        assert (TRAIN[setup.base_indices] == setup.adversarial_label).all()
        assert len(set(setup.base_indices.tolist())) == 6
        assert setup.base_indices.dtype == np.int64


def test_targets_and_classes_are_spread_evenly() -> None:
    drawn = draw(400)
    pairs = np.zeros((5, 5))
    for setup in drawn:
        pairs[setup.target_label, setup.adversarial_label] += 1
    assert (pairs.diagonal() == 0).all()
    others = pairs[~np.eye(5, dtype=bool)]
    # 20 pairs share 400 draws: mean 20, standard deviation 4.4.
    assert others.min() > 5
    assert others.max() < 40


def test_seeds_differ_between_setups_and_experiments_and_fit_63_bits() -> None:
    seeds = {setup_seed(seed, index) for seed in range(30) for index in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_poisons_stand_at_the_rows_of_their_bases_in_the_whole_split() -> None:
    setup = draw(1)[0]
    np.testing.assert_array_equal(setup.positions, setup.base_indices)
    np.testing.assert_array_equal(setup.rows(len(TRAIN)), np.arange(len(TRAIN)))


def test_every_base_image_may_be_taken_but_no_more() -> None:
    setup = draw(1, num_poisons=12)[0]
    assert sorted(setup.base_indices) == np.flatnonzero(setup.adversarial_label == TRAIN).tolist()
    with pytest.raises(InputError, match=r"num_poisons is 13.*only 12.*--num_poisons"):
        draw(1, num_poisons=13)


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_poison_or_setup_is_refused(count: int) -> None:
    with pytest.raises(InputError, match=rf"num_poisons is {count}.*--num_poisons"):
        draw(1, num_poisons=count)
    with pytest.raises(InputError, match=rf"num_setups is {count}.*--num_setups"):
        draw(count)


def test_a_single_class_is_refused() -> None:
    with pytest.raises(InputError, match=r"1 class.*--data"):
        draw_setups(np.zeros(9, np.int64), np.zeros(3, np.int64), num_setups=1, num_poisons=1, seed=0)


def test_seeds_are_those_that_the_committed_records_were_made_with() -> None:
    path = Path(__file__).parents[3] / "docs" / "records" / "digits_attacks" / "bullseye_polytope" / "results.jsonl"
    seeds = {row["setup"]: row["seed"] for row in map(json.loads, path.read_text().splitlines())}
    assert len(seeds) == 20 and seeds == {setup: setup_seed(0, setup) for setup in seeds}


def test_further_targets_are_other_test_images_of_the_targets_class_as_many_as_asked() -> None:
    for count in (1, 2, 4):
        for setup in draw_setups(TRAIN, TEST, num_setups=20, num_poisons=6, seed=3, num_targets=count):
            assert len(set(setup.target_indices)) == count == 1 + len(setup.more_targets)
            assert setup.target_indices[0] == setup.target_index
            assert set(TEST[list(setup.target_indices)]) == {setup.target_label}
    with pytest.raises(InputError, match=r"num_targets is 5, but class \d has 4 test images.*--num_targets"):
        draw_setups(TRAIN, TEST, num_setups=1, num_poisons=6, seed=3, num_targets=5)
    with pytest.raises(InputError, match="num_targets is 0"):
        draw_setups(TRAIN, TEST, num_setups=1, num_poisons=6, seed=3, num_targets=0)
