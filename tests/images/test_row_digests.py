from pathlib import Path

import numpy as np
import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.images.row_digests import (
    TRAINING_ROWS,
    read_training_rows,
    row_digests,
    shared_rows,
    write_training_rows,
)


def images(count: int = 3000, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_equal_images_agree_wherever_they_stand_and_one_grey_level_tells_others_apart():
    first = images()
    digests = row_digests(first)
    assert digests.dtype == np.uint64 and len(set(digests.tolist())) == 3000
    order = torch.randperm(3000)
    assert (row_digests(first[order]) == digests[order.numpy()]).all()
    changed = first.clone()
    changed[:, 1, 4, 4] ^= 1
    assert not np.isin(row_digests(changed), digests).any()
    # Two pixels exchanged keep the sum of bytes, which a weaker digest would keep too.
    swapped = first.flip(3)
    assert not (row_digests(swapped) == digests).any()


def test_shared_rows_are_counted():
    own, other = row_digests(images()), row_digests(torch.cat([images()[:7], images(50, seed=1)]))
    assert shared_rows(own, other) == 7 and shared_rows(other, own) == 7
    assert shared_rows(own, row_digests(images(50, seed=2))) == 0


def test_a_record_is_read_back_or_said_to_be_missing_or_damaged(tmp_path):
    assert read_training_rows(tmp_path) is None
    write_training_rows(tmp_path, images(20))
    assert (read_training_rows(tmp_path) == row_digests(images(20))).all()
    whole = (tmp_path / TRAINING_ROWS).read_bytes()
    for content in (whole[:100], b"", b"nonsense"):
        (tmp_path / TRAINING_ROWS).write_bytes(content)
        with pytest.raises(InputError, match=r"no record of training images.*--denoiser"):
            read_training_rows(tmp_path)
    np.save(tmp_path / TRAINING_ROWS, np.zeros(3))
    with pytest.raises(InputError, match="float64"):
        read_training_rows(tmp_path)


def test_the_shipped_digits_denoiser_saw_the_public_images_and_no_others():
    data, seen = DigitsDataModule(), read_training_rows(Path("poison_and_defend/pretrained/digits"))
    assert shared_rows(seen, row_digests(data.split("public").images)) == len(seen) == 800
    assert shared_rows(seen, row_digests(data.split("train").images)) == 0
    assert shared_rows(seen, row_digests(data.split("test").images)) == 0
