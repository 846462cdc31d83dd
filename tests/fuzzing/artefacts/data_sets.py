"""Arrays, the public data sets as their owners give them, and a lease."""

import pickle
import struct
from pathlib import Path

import numpy as np

from poison_and_defend.cleaning.data_task import SanitizeData
from poison_and_defend.cleaning.run import sanitize_alone
from poison_and_defend.cleaning.task import SanitizeTask
from poison_and_defend.core.files import save_arrays
from poison_and_defend.core.processes.leases import Leases
from poison_and_defend.datamodules import (
    ArraysDataModule,
    CIFAR10DataModule,
    MNISTDataModule,
)
from poison_and_defend.datamodules.tiny_imagenet import TinyImageNetDataModule
from tests.fuzzing.artefacts.base import ONE, Artefact, Read
from tests.picture_folders import photo


def _make_arrays(folder: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8), np.arange(6) % 3
    save_arrays(folder / "set.npz", {"images": images, "labels": labels})


def _read_arrays(folder: Path) -> None:
    ArraysDataModule("set.npz", "set.npz", root=str(folder)).split("test")


def _sanitize_arrays(folder: Path) -> None:
    data = SanitizeData(str(folder / "set.npz"), 3)
    sanitize_alone(SanitizeTask(str(folder / "out.npz"), data, "noise_only", sigma=0.1, noise_seed=0, batch_size=4), ONE)


def _make_mnist(folder: Path) -> None:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("train", "t10k"):
        images = rng.integers(0, 256, (4, 28, 28), dtype=np.uint8)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, 4, 28, 28) + images.tobytes())
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 4) + bytes(range(4)))


def _read_mnist(folder: Path) -> None:
    data = MNISTDataModule(str(folder), public_size=2)
    for name in ("train", "test"):
        split = data.split(name)  # type: ignore[arg-type]
        assert split.images.shape[1:] == (1, 28, 28)


def _make_cifar(folder: Path) -> None:
    place = folder / "cifar-10-batches-py"
    place.mkdir()
    content = pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]})
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"):
        (place / name).write_bytes(content)


def _read_cifar(folder: Path) -> None:
    CIFAR10DataModule(str(folder)).split("train")


def _make_tiny_imagenet(folder: Path) -> None:
    for number, name in enumerate(("n01", "n02")):
        (folder / "train" / name / "images").mkdir(parents=True)
        photo(number).save(folder / "train" / name / "images" / "a.png")
    (folder / "val" / "images").mkdir(parents=True)
    photo(3).save(folder / "val" / "images" / "v.png")
    (folder / "val" / "val_annotations.txt").write_text("v.png\tn02\t0\t0\t62\t62\n")
    (folder / "wnids.txt").write_text("n01\nn02\n")


def _read_tiny_imagenet(folder: Path) -> None:
    data = TinyImageNetDataModule(str(folder), size=8)
    data.split("train"), data.split("test")


def _make_lease(folder: Path) -> None:
    (folder / "1.claim").write_text("elsewhere 12345")


def _read_lease(folder: Path) -> None:
    Leases(folder).claim("1")


MAKERS: dict[str, Read] = {
    "arrays": _make_arrays,
    "MNIST": _make_mnist,
    "CIFAR-10": _make_cifar,
    "Tiny ImageNet": _make_tiny_imagenet,
    "lease": _make_lease,
}


def artefacts() -> list[Artefact]:
    """In an order that is always the same."""
    return [
        Artefact("arrays", "set.npz", _read_arrays, None, 8),
        Artefact("arrays", "set.npz", _sanitize_arrays, None, 4),
        *(
            Artefact("MNIST", f"MNIST/raw/{name}-ubyte", _read_mnist)
            for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3")
        ),
        Artefact("CIFAR-10", "cifar-10-batches-py/data_batch_1", _read_cifar, None, 1),
        *(Artefact("Tiny ImageNet", name, _read_tiny_imagenet) for name in ("wnids.txt", "val/val_annotations.txt")),
        Artefact("lease", "1.claim", _read_lease, None, 1),
    ]
