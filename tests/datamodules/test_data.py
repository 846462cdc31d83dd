import hashlib
import os
import pickle

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import ArraysDataModule, CIFAR10DataModule, CIFAR100DataModule, DigitsDataModule
from poison_and_defend.images.arrays import make_split
from tests.fuzzing.mutations import Payload


def test_digits_are_split_without_overlap_and_scaled_fully():
    data = DigitsDataModule()
    splits = [data.split(name) for name in ("public", "train", "test")]
    assert [len(s) for s in splits] == [800, 598, 399]
    rows = [hashlib.sha256(image.numpy().tobytes()).hexdigest() for s in splits for image in s.images]
    # scikit-learn's set has 1,797 images of which all are distinct, so that no image is in two parts.
    assert len(set(rows)) == 1797
    assert splits[1].images.dtype == torch.uint8 and splits[1].images.amax() == 255
    assert set(splits[1].labels.tolist()) == set(range(10))


def test_the_split_is_the_same_for_everyone():
    labels = DigitsDataModule().split("test").labels
    assert hashlib.sha256(labels.numpy().tobytes()).hexdigest()[:12] == "052abbbb6485"


@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "NHW", "float"])
def test_arrays_are_read_in_every_layout(tmp_path, layout):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 8, 8, 1 if layout == "NHW" else 3), dtype=np.uint8)
    stored = {"NHWC": images, "NCHW": images.transpose(0, 3, 1, 2), "NHW": images[..., 0], "float": images / 255}[layout]
    for name in ("train", "test"):
        np.savez(tmp_path / f"{name}.npz", images=stored, labels=np.array([0, 1, 2, 0, 1, 2]))
    data = ArraysDataModule("train.npz", "test.npz", root=str(tmp_path))
    assert torch.equal(data.split("train").images, torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    assert data.num_classes == 3 and data.image_shape == ((1 if layout == "NHW" else 3), 8, 8)
    with pytest.raises(InputError, match="public"):
        data.split("public")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 9]), r"labels range from 0 to 9, outside 0..2"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.array([-1, 0]), r"labels range from -1"),
        (np.full((2, 8, 8, 3), 1.5), np.array([0, 1]), r"range from 1.5 to 1.5, outside \[0, 1\]"),
        (np.full((2, 8, 8, 3), np.nan), np.array([0, 1]), r"outside \[0, 1\]"),
        (np.zeros((2, 8, 8, 3), np.int64), np.array([0, 1]), "not uint8 or float"),
        (np.zeros((2, 8, 8, 5), np.uint8), np.array([0, 1]), "neither 1 nor 3 channels"),
        (np.zeros((2, 8), np.uint8), np.array([0, 1]), "have shape"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.array([0.0, 1.0]), "integer labels"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 1, 2]), "integer labels"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.array([[0], [1]]), r"a column of shape \(2, 1\), .* flatten them"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.array(["a", "b"]), "labels are of dtype <U1, which are no plain numbers"),
        (np.zeros((2, 8, 8, 3), [("a", "u1")]), np.array([0, 1]), r"images are of dtype .* no plain numbers"),
        (np.zeros((0, 8, 8, 3), np.uint8), np.zeros(0, np.int64), "is empty"),
    ],
)
def test_bad_arrays_are_refused_with_what_is_wrong(images, labels, message):
    with pytest.raises(InputError, match=message):
        make_split(images, labels, 3, "somewhere.npz")


def test_bad_files_are_refused_with_what_is_wrong(tmp_path):
    np.savez(tmp_path / "unlabelled.npz", images=np.zeros((2, 8, 8, 3), np.uint8))
    np.savez(tmp_path / "objects.npz", images=np.array([None, {}], object), labels=np.array([0, 1]))
    np.save(tmp_path / "bare.npy", np.zeros(3))
    (tmp_path / "bare.npz").write_bytes((tmp_path / "bare.npy").read_bytes())
    (tmp_path / "truncated.npz").write_bytes((tmp_path / "unlabelled.npz").read_bytes()[:200])
    for name, message in {
        "missing.npz": "cannot read",
        "unlabelled.npz": "no array named labels",
        "objects.npz": "no .npz file of plain arrays",
        "bare.npz": "no .npz file of plain arrays",
        "truncated.npz": "no .npz file of plain arrays",
    }.items():
        with pytest.raises(InputError, match=message):
            ArraysDataModule(name, name, root=str(tmp_path))


@pytest.mark.parametrize(
    ("module", "reader", "files", "keys"),
    [
        (
            CIFAR10DataModule,
            CIFAR10,
            ("cifar-10-batches-py", "data_batch_1", "test_batch", "batches.meta"),
            ("labels", "label_names"),
        ),
        (CIFAR100DataModule, CIFAR100, ("cifar-100-python", "train", "test", "meta"), ("fine_labels", "fine_label_names")),
    ],
)
def test_cifar_is_read_from_its_own_file_format(tmp_path, monkeypatch, module, reader, files, keys):
    rng = np.random.default_rng(0)
    folder = tmp_path / files[0]
    folder.mkdir()
    sums, pixels, last = {}, {}, module.num_classes - 1
    for name, count in ((files[1], 5), (files[2], 3)):
        pixels[name] = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        labels = list(range(last, last - count, -1))
        content = pickle.dumps({"data": pixels[name], keys[0]: labels, "coarse_labels": [0] * count})
        (folder / name).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    meta = pickle.dumps({keys[1]: [str(number) for number in range(last + 1)]})
    (folder / files[3]).write_bytes(meta)
    monkeypatch.setattr(reader, "train_list", [[files[1], sums[files[1]]]])
    monkeypatch.setattr(reader, "test_list", [[files[2], sums[files[2]]]])
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": hashlib.md5(meta).hexdigest()})
    data = module(str(tmp_path))
    assert torch.equal(data.split("train").images.flatten(1), torch.from_numpy(pixels[files[1]]))
    assert data.split("test").labels.tolist() == [last, last - 1, last - 2]
    with pytest.raises(InputError, match=rf"{data.title} is not under.*--data\.root"):
        module(str(tmp_path / "elsewhere")).split("train")
    with pytest.raises(InputError, match=f"{data.title} has no public part"):
        data.split("public")


@pytest.mark.parametrize(
    ("module", "folder", "names"),
    [
        (CIFAR10DataModule, "cifar-10-batches-py", [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"]),
        (CIFAR100DataModule, "cifar-100-python", ["train", "test", "meta"]),
    ],
)
def test_hostile_files_called_like_cifar_are_not_run(tmp_path, module, folder, names):
    (tmp_path / folder).mkdir()
    for name in names:
        (tmp_path / folder / name).write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    for split in ("train", "test"):
        with pytest.raises(InputError, match=r"not under .* with its files as they were published: .*--data\.root"):
            module(str(tmp_path)).split(split)
    assert not (tmp_path / "ran").exists()
    # A huge one is not even read.
    os.truncate(tmp_path / folder / names[0], 1 << 40)
    with pytest.raises(InputError, match="not under"):
        module(str(tmp_path)).split("train")


def test_training_batches_follow_the_documented_permutation():
    data = DigitsDataModule(batch_size=100, seed=7)
    data.setup("fit")
    loader = data.train_dataloader()
    loader.sampler.set_epoch(2)
    labels = torch.cat([batch[1] for batch in loader])
    order = torch.randperm(598, generator=torch.Generator().manual_seed(9))
    assert torch.equal(labels, data.split("train").labels[order])
