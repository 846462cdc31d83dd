import gzip

import numpy as np
import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import FashionMNISTDataModule
from poison_and_defend.images import embedded
from tests.datamodules.test_mnist import write_idx

SIZES = {"public": 4000, "train": 2000, "test": 1000}


def test_what_comes_along_has_every_class_about_equally_often_and_no_image_in_two_parts() -> None:
    data = FashionMNISTDataModule()
    seen: set[bytes] = set()
    for name, size in SIZES.items():
        split = data.split(name)
        assert split.images.shape == (size, *data.image_shape) and split.images.dtype == torch.uint8
        counts = split.labels.bincount(minlength=10)
        assert 0.8 * size / 10 < counts.min() <= counts.max() < 1.2 * size / 10
        # A photograph is no constant, and is dark around a product.
        assert split.images.float().std((1, 2, 3)).min() > 1
        assert split.images[:, :, 0, 0].float().mean() < 20
        own = {image.numpy().tobytes() for image in split.images}
        assert len(own) > 0.99 * size and not own & seen
        seen |= own
    assert data.statistics_origin == "fixed"


def test_its_statistics_are_those_of_the_images() -> None:
    images = FashionMNISTDataModule().split("train").images.float() / 255
    assert images.mean().item() == pytest.approx(FashionMNISTDataModule.mean[0], abs=0.005)
    assert images.std().item() == pytest.approx(FashionMNISTDataModule.std[0], abs=0.005)


def test_another_file_in_its_place_is_refused(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "EMBEDDED", tmp_path)
    with pytest.raises(InputError, match=r"not the file that came with this package: install it again"):
        FashionMNISTDataModule().split("train")
    np.savez(tmp_path / "fashion_mnist.npz", train_images=np.zeros((2, 28, 28), np.uint8), train_labels=np.zeros(2, np.uint8))
    with pytest.raises(InputError, match=r"not the file that came with this package: install it again"):
        FashionMNISTDataModule().split("train")


@pytest.mark.parametrize("place", ["", "FashionMNIST/raw/"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_the_whole_set_is_read_from_its_files_however_they_lie(tmp_path, place: str, ending: str) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (30, 28, 28)), rng.integers(0, 10, 30)
    for name in ("train", "t10k"):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            path = tmp_path / f"{place}{name}-{kind}-ubyte"
            write_idx(path, array)
            if ending:
                path.with_name(path.name + ending).write_bytes(gzip.compress(path.read_bytes()))
                path.unlink()
    data = FashionMNISTDataModule(str(tmp_path), public_size=10)
    assert (data.split("train").images[:, 0].numpy() == images[:20]).all()
    assert (data.split("public").labels.numpy() == labels[20:]).all()
    assert len(data.split("test")) == 30
    with pytest.raises(InputError, match=r"public_size is 30: .*has 30 images"):
        FashionMNISTDataModule(str(tmp_path), public_size=30).split("train")


def test_the_part_and_the_whole_have_names_of_their_own() -> None:
    assert FashionMNISTDataModule().name != FashionMNISTDataModule("anywhere").name


def test_a_download_without_a_place_is_refused() -> None:
    with pytest.raises(InputError, match=r"download is true.*--data.root"):
        FashionMNISTDataModule(download=True)


def test_a_smaller_training_split_is_its_first_images_and_the_other_parts_stay() -> None:
    whole, small = FashionMNISTDataModule(), FashionMNISTDataModule(train_size=30)
    assert small.split("train").images.equal(whole.split("train").images[:30])
    assert small.split("train").labels.equal(whole.split("train").labels[:30])
    assert len(small.split("public")) == 4000 and len(small.split("test")) == 1000


@pytest.mark.parametrize(
    ("size", "said"), [(0, "train_size is 0"), (2001, "train_size is 2001: there are 2000 training images")]
)
def test_a_training_split_of_no_images_or_more_than_there_are_is_refused(size: int, said: str) -> None:
    with pytest.raises(InputError, match=rf"{said}.*--data.train_size"):
        FashionMNISTDataModule(train_size=size).split("train")
