import json

import numpy as np
import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.datamodules.wrappers.public import PublicDataModule
from poison_and_defend.datamodules.wrappers.rows import public_split, rows_of, used_rows
from poison_and_defend.poisons.setup_files import load_setups


def test_features_see_no_row_that_a_victim_trains_on(tmp_path) -> None:
    data = DigitsDataModule()
    train, test = data.split("train"), data.split("test")
    base_class = (int(test.labels[0]) + 1) % 10
    bases = np.flatnonzero(train.labels.numpy() == base_class)[-3:].tolist()
    entry = {"target_index": 0, "target_class": int(test.labels[0]), "base_class": base_class, "base_indices": bases}
    path = tmp_path / "setups.json"
    path.write_text(json.dumps({"setups": [entry]}))
    used = used_rows(data, str(path), 100, 1)
    setups = load_setups(path, train.labels.numpy(), test.labels.numpy(), num_setups=1, train_size=100, seed=0)
    assert used.tolist() == sorted(set(setups[0].train_rows.tolist())) and set(bases) <= set(used.tolist())
    rest = np.setdiff1d(np.arange(len(train)), used)
    for public in (public_split(data, used), PublicDataModule(data, str(path), 100, 1).split("train")):
        assert torch.equal(public.images, train.images[rest]) and torch.equal(public.labels, train.labels[rest])


def test_where_victims_train_on_everything_the_public_part_is_what_is_left() -> None:
    data = DigitsDataModule()
    train = data.split("train")
    assert used_rows(data, None, None, 1).tolist() == list(range(len(train)))
    assert public_split(data, rows_of([], len(train))).images.shape == train.images.shape
    public = public_split(data, np.arange(len(train)))
    assert torch.equal(public.images, data.split("public").images)


def test_a_second_public_set_is_taken_whole() -> None:
    own, other = DigitsDataModule(), DigitsDataModule(seed=1)
    both = PublicDataModule(own, more=other).split("train")
    expected = [own.split("public"), other.split("train")]
    assert torch.equal(both.images, torch.cat([split.images for split in expected]))
    assert len(both) == len(both.labels)


def test_a_second_public_set_of_another_shape_is_refused() -> None:
    other = DigitsDataModule()
    other.image_shape = (3, 32, 32)
    with pytest.raises(InputError, match=r"shape \(3, 32, 32\).*--data\.more"):
        PublicDataModule(DigitsDataModule(), more=other)


def test_a_set_that_nobody_receives_is_public_as_a_whole() -> None:
    own = DigitsDataModule()
    assert PublicDataModule(own, whole=True).split("train").images.equal(own.split("train").images)
    assert len(PublicDataModule(own).split("train")) != len(own.split("train"))
    with pytest.raises(InputError, match=r"whole is true.*--data.whole, --data.setups"):
        PublicDataModule(own, setups="any.json", whole=True)
