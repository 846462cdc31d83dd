import json

import numpy as np
import pytest
import torch

from poison_and_defend.attacks.threat.budget import Budget
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.setups import Setup, draw_setups
from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import DiffusionSanitizeDataModule, DigitsDataModule, PoisonedDataModule
from poison_and_defend.poisons.files import load_poisons, poison_path, save_poisons


def make(data, train_rows=None):
    train, test = data.split("train"), data.split("test")
    setup = draw_setups(train.labels.numpy(), test.labels.numpy(), num_setups=1, num_poisons=5, seed=3)[0]
    if train_rows is not None:
        rows = np.concatenate([np.setdiff1d(train_rows, setup.base_indices), setup.base_indices])
        setup = Setup(0, 1, setup.target_index, setup.target_label, setup.adversarial_label, setup.base_indices, rows)
    bases = train.images[torch.from_numpy(setup.base_indices)]
    poisons = Budget("linf", 0.1).quantize(1 - bases / 255, bases)
    return PoisonSet(setup, poisons, bases, test.images[setup.target_index], Budget("linf", 0.1), {"name": "invert"}, 0.5)


@pytest.fixture
def saved(tmp_path):
    poisons = make(DigitsDataModule())
    return poisons, save_poisons(poisons, tmp_path)


def test_a_saved_set_comes_back_equal(saved):
    poisons, path = saved
    loaded = load_poisons(path)
    assert torch.equal(loaded.images, poisons.images) and torch.equal(loaded.target, poisons.target)
    assert loaded.to_record() == poisons.to_record()
    assert np.array_equal(loaded.setup.base_indices, poisons.setup.base_indices)


def test_only_base_rows_change_and_labels_and_order_stay(saved):
    poisons, path = saved
    clean = DigitsDataModule()
    data = PoisonedDataModule(DigitsDataModule(), str(path))
    data.setup("fit")
    changed = (data.split("train").images != clean.split("train").images).flatten(1).any(1)
    assert set(changed.nonzero().flatten().tolist()) <= set(poisons.setup.base_indices.tolist())
    assert torch.equal(data.split("train").images[torch.from_numpy(poisons.setup.base_indices)], poisons.images)
    assert torch.equal(data.split("train").labels, clean.split("train").labels)
    assert torch.equal(data.split("test").images, clean.split("test").images)


def test_clean_gives_the_same_setup_without_the_attack(saved):
    data = PoisonedDataModule(DigitsDataModule(), str(saved[1]), clean=True)
    assert torch.equal(data.split("train").images, DigitsDataModule().split("train").images)


def test_a_subset_ends_with_the_poisons_and_keeps_row_numbers(tmp_path):
    poisons = make(DigitsDataModule(), train_rows=np.arange(0, 598, 3))
    data = PoisonedDataModule(DigitsDataModule(), str(save_poisons(poisons, tmp_path)))
    assert torch.equal(data.split("train").images[-5:], poisons.images)
    assert torch.equal(data.row_numbers(), torch.from_numpy(poisons.setup.train_rows))


def test_sanitizing_a_poisoned_set_keys_noise_by_original_row(tmp_path):
    poisons = make(DigitsDataModule(), train_rows=np.arange(0, 598, 3))
    poisoned = PoisonedDataModule(DigitsDataModule(), str(save_poisons(poisons, tmp_path)))
    data = DiffusionSanitizeDataModule(poisoned, str(tmp_path / "store"), defense="noise_only", sigma=0.2, noise_seed=0)
    expected = data.defense(poisoned.split("train").images, torch.from_numpy(poisons.setup.train_rows))
    assert torch.equal(data.split("train").images, expected)
    assert torch.equal(data.split("train").labels, poisoned.split("train").labels)


def test_damaged_or_foreign_files_are_refused(saved, tmp_path):
    _, path = saved
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    with pytest.raises(InputError, match="truncated or was changed"):
        load_poisons(path)
    path.write_bytes(content)
    record = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(record | {"eps": 0.01}))
    with pytest.raises(InputError, match="leave the budget"):
        load_poisons(path)
    path.with_suffix(".json").write_text("[]")
    with pytest.raises(InputError, match="no JSON object but of type list"):
        load_poisons(path)
    with pytest.raises(InputError, match="cannot read"):
        load_poisons(poison_path(tmp_path, 9))


def test_poisons_of_other_data_are_refused(saved):
    class Flipped(DigitsDataModule):
        def load(self, name):
            split = super().load(name)
            split.images.copy_(split.images.flip(3))
            return split

    with pytest.raises(InputError, match="not this data set's images"):
        PoisonedDataModule(Flipped(), str(saved[1])).split("train")
