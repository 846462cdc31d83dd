import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import TinyImageNetDataModule

# Not in sorted order, as in the archive's wnids.txt.
WNIDS = ["n04", "n01", "n03", "n02"]
VALIDATION = {"val_0": "n03", "val_1": "n01", "val_10": "n04", "val_2": "n02", "val_3": "n01"}


def save(path, brightness):
    """Smooth colours, which JPEG keeps within a few levels: red tells images apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), (brightness, 128, 64)).save(path, quality=95)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "wnids.txt").write_text("\n".join(WNIDS))
    for wnid in WNIDS:
        for number in range(12):
            save(tmp_path / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", 50 * int(wnid[1:]) + number * 4 - 30)
        (tmp_path / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
    for row, name in enumerate(VALIDATION):
        save(tmp_path / "val" / "images" / f"{name}.JPEG", 40 * row + 20)
    lines = [f"{name}.JPEG\t{wnid}\t0\t0\t63\t63" for name, wnid in VALIDATION.items()]
    (tmp_path / "val" / "val_annotations.txt").write_text("\n".join(reversed(lines)) + "\n")
    return tmp_path


def reds(split):
    return split.images[:, 0].float().mean((1, 2)).round().int()


def test_rows_are_in_the_order_of_the_benchmark(root):
    data = TinyImageNetDataModule(str(root))
    assert (data.name, data.num_classes, data.image_shape) == ("tiny_imagenet", 4, (3, 64, 64))
    train = data.split("train")
    assert train.labels.tolist() == [label for label in range(4) for _ in range(12)]
    numbers = [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]
    expected = torch.tensor([50 * (label + 1) + number * 4 - 30 for label in range(4) for number in numbers])
    assert (reds(train) - expected).abs().max() <= 1
    test = data.split("test")
    assert test.labels.tolist() == [2, 0, 3, 1, 0]
    assert (reds(test) - torch.tensor([20, 60, 100, 140, 180])).abs().max() <= 1


def test_rows_and_labels_of_a_part_count_from_its_first_class(root):
    whole = TinyImageNetDataModule(str(root))
    part = TinyImageNetDataModule(str(root), first_class=2)
    other = TinyImageNetDataModule(str(root), num_classes=2)
    assert [data.num_classes for data in (part, other)] == [2, 2]
    assert [data.name for data in (part, other)] == ["tiny_imagenet_2_3", "tiny_imagenet_0_1"]
    assert torch.equal(part.split("train").images, whole.split("train").images[24:])
    assert torch.equal(part.split("train").labels, whole.split("train").labels[24:] - 2)
    assert torch.equal(part.split("test").images, whole.split("test").images[[0, 2]])
    assert part.split("test").labels.tolist() == [0, 1]
    assert torch.equal(other.split("train").images, whole.split("train").images[:24])
    assert other.split("test").labels.tolist() == [0, 1, 0]
    assert len(list(root.glob(".decoded*"))) == 6  # One for each split of each part.


def test_the_validation_part_alone_is_halved_within_every_class(root):
    for number in range(8):
        save(root / "val" / "images" / f"more_{number}.JPEG", 30 * number + 10)
    lines = [f"more_{number}.JPEG\t{WNIDS[number % 4]}\t0\t0\t63\t63" for number in range(8)]
    with (root / "val" / "val_annotations.txt").open("a") as file:
        file.write("\n".join(lines) + "\n")
    data = TinyImageNetDataModule(str(root), only_validation=True)
    train, test = data.split("train"), data.split("test")
    assert data.name == "tiny_imagenet_validation"
    # n01 has more_1, more_5, val_1, val_3; n02 more_3, more_7, val_2; n03 more_2, more_6, val_0; n04 more_0, more_4, val_10.
    assert train.labels.tolist() == [0, 0, 1, 2, 3]
    assert test.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (reds(train) - torch.tensor([40, 160, 100, 70, 10])).abs().max() <= 1
    assert (reds(test) - torch.tensor([60, 180, 220, 140, 190, 20, 130, 100])).abs().max() <= 1


def test_a_class_that_cannot_be_halved_is_named(root):
    with pytest.raises(InputError, match=r"^n02 has 1 validation images: 2 are needed \(--data.only_validation\)$"):
        TinyImageNetDataModule(str(root), only_validation=True).split("train")


def test_classes_are_the_folders_that_are_there_and_listed(root):
    (root / "wnids.txt").write_text("\n".join([*WNIDS[1:], "n99"]))
    assert TinyImageNetDataModule(str(root)).classes == ["n01", "n02", "n03"]
    (root / "wnids.txt").unlink()
    assert TinyImageNetDataModule(str(root)).classes == ["n01", "n02", "n03", "n04"]


def test_grey_files_are_read_as_rgb(root):
    Image.new("L", (64, 64), 77).save(root / "train" / "n01" / "images" / "n01_0.JPEG")
    image = TinyImageNetDataModule(str(root)).split("train").images[0]
    assert image.shape == (3, 64, 64) and set(image.unique().tolist()) == {77}


def test_half_the_size_is_the_mean_of_its_surroundings(root):
    path = root / "train" / "n01" / "images" / "n01_0.JPEG"
    Image.fromarray(np.tile(np.repeat(np.uint8([[0], [255]]), 64, 1), (32, 1))).save(path, quality=100)
    data = TinyImageNetDataModule(str(root), size=32)
    image = data.split("train").images[0]
    assert image.shape == data.image_shape == (3, 32, 32)
    assert (image[:, 1:-1].float() - 127.5).abs().max() < 5


def test_only_the_process_that_prepares_decodes(root, monkeypatch):
    TinyImageNetDataModule(str(root)).prepare_data()
    monkeypatch.setattr("poison_and_defend.images.decode._decode", None)  # Calling it would fail.
    data = TinyImageNetDataModule(str(root))
    data.setup("fit")
    assert len(data.split("train")) == 48 and len(data.split("test")) == 5


def test_what_is_wrong_with_the_folder_is_said(root):
    def message(match, **options):
        with pytest.raises(InputError, match=match) as caught:
            data = TinyImageNetDataModule(str(root), **options)
            data.split("train")
            data.split("test")
        assert "--data." in str(caught.value)

    with pytest.raises(InputError, match=r"no public part.*--data\.first_class"):
        TinyImageNetDataModule(str(root)).split("public")
    with pytest.raises(InputError, match=r"no folder named train.*--data\.root"):
        TinyImageNetDataModule(str(root / "elsewhere"))
    message(r"first_class is 4: .* classes 0 to 3", first_class=4)
    message("first_class is -1", first_class=-1)
    message("num_classes is 3: from class 2 on .* has 2", first_class=2, num_classes=3)
    message("num_classes is 0", num_classes=0)
    message("size is 0", size=0)
    annotations = root / "val" / "val_annotations.txt"
    whole = annotations.read_text()
    annotations.write_text(whole + "val_77.JPEG\tn02\t0\t0\t1\t1\n")
    message(r"cannot read the image .*val_77\.JPEG: No such file")
    annotations.write_text(whole + "val_77.JPEG\n")
    message("line 6 is not a file name and a class id: 'val_77.JPEG'")
    annotations.write_text("val_0.JPEG\tn99\t0\t0\t1\t1\n")
    message("names no image of the 4 classes")
    annotations.write_bytes(b"\xff\xfe\x00")
    message("not a text file")
    annotations.unlink()
    message(r"cannot read .*val_annotations\.txt: No such file")
    annotations.write_text(whole)
    victim = root / "train" / "n03" / "images" / "n03_5.JPEG"
    victim.write_bytes(victim.read_bytes()[:-100])
    message(r"cannot read the image .*n03_5\.JPEG: .*[Tt]runcated")
    victim.unlink()
    assert len(TinyImageNetDataModule(str(root)).split("train")) == 47
    (root / "train" / "n03" / "images").rename(root / "train" / "n03" / "pictures")
    message(r"cannot read the folder .*n03/images|n03/images holds no")
    (root / "wnids.txt").write_text("n98 n99")
    message("none of the classes that")


def _real() -> Path | None:
    folder = Path(os.environ.get("POISON_DATA_ROOT", ".data"))
    names = ("tiny-imagenet-200", "tiny-imagenet-20-original", "tiny-imagenet-20")
    return next((folder / name for name in names if list((folder / name).glob("train/*/images"))[:1]), None)


def test_the_real_images_are_read_in_order(tmp_path):
    real = _real()
    if real is None:
        pytest.skip("no Tiny ImageNet in its archive's folders under POISON_DATA_ROOT or .data")
    for name in ("train", "val", "wnids.txt"):  # So that nothing is written into the user's folder.
        (tmp_path / name).symlink_to((real / name).resolve())
    data = TinyImageNetDataModule(str(tmp_path), first_class=1, num_classes=2)
    train, test = data.split("train"), data.split("test")
    assert train.labels.bincount().tolist() == [500, 500] and test.labels.bincount().tolist() == [50, 50]
    for label, wnid in enumerate(data.classes):
        names = sorted(path.name for path in (real / "train" / wnid / "images").iterdir())
        for row in (0, 1, 2, 250, 499):
            with Image.open(real / "train" / wnid / "images" / names[row]) as file:
                expected = np.asarray(file.convert("RGB")).transpose(2, 0, 1)
            assert np.array_equal(train.images[500 * label + row].numpy(), expected)
    # The published statistics of the data set, which two of its classes are near.
    assert all(
        abs(found - known) < 0.1 for found, known in zip(train.images.float().mean((0, 2, 3)) / 255, data.mean, strict=True)
    )
