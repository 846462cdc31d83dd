import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.core.errors import InputError
from poison_and_defend.poisons.setup_files import load_setups

CLASSES, EACH = 4, 9
TRAIN = np.random.default_rng(0).permutation(np.repeat(np.arange(CLASSES), EACH))
TEST = np.array([2, 0, 1, 3, 2])
BASES = np.flatnonzero(TRAIN == 1)[[6, 0, 3]].tolist()
ENTRY = {"target_class": 2, "target_index": 4, "base_class": 1, "base_indices": BASES}


def load(
    folder: Path, *entries: Any, num_setups: int = 1, train_size: int | None = 20, seed: int = 0, **more: Any
) -> list[Setup]:
    path = folder / "setups.json"
    path.write_text(json.dumps({"setups": entries}))
    return load_setups(path, TRAIN, TEST, num_setups=num_setups, train_size=train_size, seed=seed, **more)


def benchmark_rows(bases: list[int], base_class: int, train_size: int) -> list[int]:
    """The published evaluator's construction, written out row by row."""
    share, rows = train_size // CLASSES, []
    for label in range(CLASSES):
        room = share - len(bases) if label == base_class else share
        for row, own in enumerate(TRAIN):
            if own == label and row not in bases and room > 0:
                rows.append(row)
                room -= 1
    return rows + bases


@pytest.mark.parametrize("train_size", [16, 20, 24])
def test_the_public_training_set_is_rebuilt(tmp_path: Path, train_size: int) -> None:
    (setup,) = load(tmp_path, ENTRY, train_size=train_size)
    assert setup.train_rows.tolist() == benchmark_rows(BASES, 1, train_size)
    assert np.bincount(TRAIN[setup.train_rows]).tolist() == [train_size // CLASSES] * CLASSES
    assert (setup.target_index, setup.target_label, setup.adversarial_label) == (4, 2, 1)
    np.testing.assert_array_equal(setup.rows(len(TRAIN)), setup.train_rows)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_of_fewer_poisons_the_first_bases_count_and_the_others_are_images_like_all(tmp_path: Path, count: int) -> None:
    (setup,) = load(tmp_path, ENTRY, first_poisons=count)
    assert setup.base_indices.tolist() == BASES[:count]
    assert setup.train_rows.tolist() == benchmark_rows(BASES[:count], 1, 20)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, r"first_poisons is 0.*--first_poisons"),
        (4, r"first_poisons is 4, but setup 0 of .* has 3 bases \(--first_poisons\)"),
    ],
)
def test_more_poisons_than_bases_or_none_are_refused(tmp_path: Path, count: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(tmp_path, ENTRY, first_poisons=count)


def test_positions_point_at_the_bases_in_the_victims_training_set(tmp_path: Path) -> None:
    (setup,) = load(tmp_path, ENTRY)
    assert setup.positions.tolist() == [17, 18, 19]
    assert setup.train_rows[setup.positions].tolist() == BASES


def test_a_base_listed_twice_keeps_both_positions(tmp_path: Path) -> None:
    twice = [BASES[0], BASES[1], BASES[0]]
    (setup,) = load(tmp_path, ENTRY | {"base_indices": twice})
    assert setup.train_rows.tolist() == benchmark_rows(twice, 1, 20)
    assert setup.train_rows[setup.positions].tolist() == twice


def test_the_whole_split_is_kept_without_a_training_size(tmp_path: Path) -> None:
    (setup,) = load(tmp_path, ENTRY, train_size=None)
    assert setup.train_rows is None
    assert setup.positions.tolist() == BASES


def test_setups_come_in_file_order_with_seeds_of_their_own(tmp_path: Path) -> None:
    other = ENTRY | {"target_class": 0, "target_index": 1}
    both = load(tmp_path, ENTRY, other, num_setups=2)
    assert [s.target_index for s in both] == [4, 1]
    assert [s.index for s in both] == [0, 1]
    assert both[0].seed != both[1].seed
    assert load(tmp_path, ENTRY, other)[0].seed == both[0].seed
    assert load(tmp_path, ENTRY, other, seed=1)[0].seed != both[0].seed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_class": 3}, r"setup 0.*test image 4 is not of class 3.*--setups"),
        ({"target_index": 5}, r"test image 5.*--setups"),
        ({"target_index": -1}, r"test image -1.*--setups"),
        ({"base_indices": [len(TRAIN)]}, r"outside 0\.\.35.*--setups"),
        ({"base_indices": [-1]}, r"outside 0\.\.35.*--setups"),
        ({"base_indices": [BASES]}, r"--setups"),
        ({"base_indices": 3}, r"--setups"),
        ({"base_indices": []}, r"num_poisons is 0"),
        ({"base_class": 0}, r"not of class 0.*--setups"),
        ({"base_indices": np.flatnonzero(TRAIN == 1).tolist() * 2}, r"only 9 training images"),
        ({"base_indices": ["first"]}, r"no list of setups.*--setups"),
        ({"target_index": None}, r"no list of setups.*--setups"),
        pytest.param({"base_indices": [2**70]}, r"--setups"),
        pytest.param({"base_indices": [b + 0.5 for b in BASES]}, r"--setups"),
        pytest.param({"base_class": 2, "base_indices": np.flatnonzero(TRAIN == 2)[:3].tolist()}, r"--setups"),
    ],
)
def test_an_entry_that_disagrees_with_the_data_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(tmp_path, ENTRY | change)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3", '{"setups": 3}', '{"setups": [3]}', '{"setups": [{}]}', "\x00"])
def test_a_malformed_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "setups.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"setups\.json.*--setups"):
        load_setups(path, TRAIN, TEST, num_setups=1, train_size=None, seed=0)


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "setups.json"
    path.write_bytes(b"\x80\x04\x95\xff")  # the start of a pickle, the benchmark's own format
    with pytest.raises(InputError, match=r"setups\.json.*--setups"):
        load_setups(path, TRAIN, TEST, num_setups=1, train_size=None, seed=0)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json.*No such file.*--setups"):
        load_setups(tmp_path / "nowhere.json", TRAIN, TEST, num_setups=1, train_size=None, seed=0)


def test_fewer_setups_than_asked_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds 1 setups, fewer than the 2.*--num_setups"):
        load(tmp_path, ENTRY, num_setups=2)


@pytest.mark.parametrize(
    ("train_size", "message"),
    [
        (18, "multiple of the 4 classes"),
        (12, "leave clean images beside 3 poisons"),
        (0, "train_size is 0"),
        (-20, "train_size is -20"),
        (40, "class 0 has 9 images besides the bases, fewer than 10"),
    ],
)
def test_a_training_size_that_cannot_be_built_is_refused(tmp_path: Path, train_size: int, message: str) -> None:
    with pytest.raises(InputError, match=rf"{message}.*--train_size"):
        load(tmp_path, ENTRY, train_size=train_size)


def test_setups_with_different_numbers_of_bases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--setups"):
        load(tmp_path, ENTRY, ENTRY | {"base_indices": BASES[:2]}, num_setups=2)


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_setup_is_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(InputError, match=rf"num_setups is {count}.*--num_setups"):
        load(tmp_path, ENTRY, ENTRY, num_setups=count)
