import struct

import numpy as np
import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import MNISTDataModule


def write_idx(path, array):
    """The IDX format of the original files: two zeros, type 8 (unsigned byte), dimensions, sizes, values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    raw = tmp_path / "MNIST" / "raw"
    arrays = {"train": (70, rng.integers(0, 10, 70)), "t10k": (30, rng.integers(0, 10, 30))}
    pixels = {}
    for name, (count, labels) in arrays.items():
        pixels[name] = rng.integers(0, 256, (count, 28, 28))
        write_idx(raw / f"{name}-images-idx3-ubyte", pixels[name])
        write_idx(raw / f"{name}-labels-idx1-ubyte", labels)
    return tmp_path, pixels, {name: labels for name, (_, labels) in arrays.items()}


def test_the_last_training_images_are_set_aside(files):
    root, pixels, labels = files
    data = MNISTDataModule(str(root), public_size=20)
    for name, file, part in (("train", "train", slice(0, 50)), ("public", "train", slice(50, 70)), ("test", "t10k", slice(30))):
        split = data.split(name)
        assert (split.images[:, 0].numpy() == pixels[file][part]).all()
        assert (split.labels.numpy() == labels[file][part]).all()
        assert split.images.dtype == torch.uint8 and split.images.shape[1:] == data.image_shape
    assert data.statistics_origin == "fixed"


def test_what_is_missing_or_damaged_is_said_in_one_sentence(files, tmp_path):
    with pytest.raises(InputError, match=r"MNIST is not under .*nowhere.*--data.root.*--data.download true"):
        MNISTDataModule(str(tmp_path / "nowhere")).split("train")
    labels = files[0] / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    kept = labels.read_bytes()
    labels.unlink()
    with pytest.raises(InputError, match=r"in part: t10k-labels-idx1-ubyte is missing \(--data.root\)"):
        MNISTDataModule(str(files[0])).split("train")
    labels.write_bytes(kept)
    path = files[0] / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte is damaged.*has 4984 \(--data.root\)"):
        MNISTDataModule(str(files[0])).split("train")
    for size in (0, 60_000):
        with pytest.raises(InputError, match=f"public_size is {size}"):
            MNISTDataModule(str(files[0]), public_size=size)
