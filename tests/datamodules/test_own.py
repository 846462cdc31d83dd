import random
import sys

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, random_split
from torchvision.datasets import FakeData

from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import OwnDataModule
from poison_and_defend.images.items import read_items

HERE = __name__
PIXELS = np.random.default_rng(0).integers(0, 256, (10, 6, 4, 3), dtype=np.uint8)
LABELS = np.arange(10) % 3

FORMS = {
    "array": lambda image: image,
    "tensor": lambda image: torch.from_numpy(image).permute(2, 0, 1),
    "float tensor": lambda image: torch.from_numpy(image).permute(2, 0, 1) / 255,
    "float array": lambda image: image / 255,
    "picture": Image.fromarray,
}


class Pairs(Dataset):
    """Ten images of 6 x 4; the last three are the test split."""

    def __init__(self, train, form="array", grey=False, item=tuple):
        rows = slice(0, 7) if train else slice(7, 10)
        self.images, self.labels = PIXELS[rows, ..., 0] if grey else PIXELS[rows], LABELS[rows]
        self.form, self.item = FORMS[form] if isinstance(form, str) else form, item

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, row):
        return self.item((self.form(self.images[row]), self.labels[row]))


class Split(Pairs):
    def __init__(self, split):
        super().__init__(train=split != "test")
        self.classes = ["a", "b", "c", "never seen"]
        if split == "extra":
            self.images = 255 - self.images


class Chosen(Pairs):
    def __init__(self, first: int, last: int):
        super().__init__(train=True)
        self.images, self.labels = PIXELS[first:last], LABELS[first:last]


class DigitsModule(L.LightningDataModule):
    """Shuffles, has no test loader, and counts what Lightning would call."""

    def __init__(self, batch_size=7, scale=1.0):
        super().__init__()
        self.save_hyperparameters()
        self.called = []

    def prepare_data(self):
        self.called.append("prepare")

    def setup(self, stage):
        self.called.append(stage)
        digits = load_digits()
        images = torch.from_numpy(digits.images[:60] / 16).float()[:, None] * self.hparams.scale
        self.train = TensorDataset(images[:40], torch.from_numpy(digits.target[:40]))
        self.held = TensorDataset(images[40:], torch.from_numpy(digits.target[40:60]))

    def train_dataloader(self):
        return DataLoader(self.train, self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.held, self.hparams.batch_size)


class SplitModule(DigitsModule):
    """Draws its test rows, and says its number of classes."""

    num_classes = 12

    def setup(self, stage):
        super().setup(stage)
        self.train, self.held = random_split(self.train, [30, 10])

    def test_dataloader(self):
        return [DataLoader(self.held, 4)]


class _Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.from_numpy(PIXELS[row]).permute(2, 0, 1), int(LABELS[row])) for row in (3, 1, 2, 0, 5)])


class StreamModule(L.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(_Stream(), 2)

    def test_dataloader(self):
        return DataLoader(_Stream(), 3)


class Unnumbered(IterableDataset):
    def __iter__(self):
        return iter([])


class Noisy(Pairs):
    """An augmentation that draws from every generator there is."""

    def __getitem__(self, row):
        drawn = np.random.randint(9) + random.randrange(9) + int(torch.randint(9, ()))  # noqa: NPY002
        return np.full((4, 4), drawn, np.uint8), row % 2


def own(kind, **options):
    return OwnDataModule(f"{HERE}.{kind.__name__}", **options)


def chw(images):
    return images.transpose(0, 3, 1, 2)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_image_gives_its_pixels_in_order(form):
    data = own(Pairs, arguments={"form": form})
    assert np.array_equal(data.split("train").images.numpy(), chw(PIXELS[:7]))
    assert np.array_equal(data.split("test").images.numpy(), chw(PIXELS[7:]))
    assert data.split("train").labels.tolist() == LABELS[:7].tolist() and data.split("test").labels.tolist() == [1, 2, 0]
    assert (data.name, data.num_classes, data.image_shape) == ("Pairs", 3, (3, 6, 4))
    assert data.mean == data.std == (0.5,) * 3 and data.statistics_origin == "fixed"


@pytest.mark.parametrize(("form", "convert"), [("array", None), ("picture", None), ("tensor", torch.from_numpy)])
def test_grey_images_have_one_channel(form, convert):
    data = own(Pairs, arguments={"form": convert or form, "grey": True})
    assert np.array_equal(data.split("train").images.numpy(), PIXELS[:7, None, :, :, 0]) and data.image_shape == (1, 6, 4)


@pytest.mark.parametrize("item", [list, lambda pair: {"image": pair[0], "label": pair[1]}])
def test_pairs_may_be_lists_and_mappings(item):
    assert np.array_equal(own(Pairs, arguments={"item": item}).split("train").images.numpy(), chw(PIXELS[:7]))


def test_pictures_of_other_modes_become_grey_or_coloured_over_white():
    image = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    images, labels = read_items([(image, np.int8(1)), (image.convert("P"), torch.tensor(2))], 2, "x", "--data")
    assert (
        images[0, :, 0, 1].tolist() == [10, 20, 30] and images[0, :, 0, 0].tolist() == [255] * 3 and labels.tolist() == [1, 2]
    )
    images, _ = read_items([(Image.new("1", (2, 2), 1), 0)], None, "x", "--data")
    assert images.tolist() == [[[[255, 255], [255, 255]]]]


def test_classes_and_a_public_part_are_the_classes_own():
    data = own(Split, public_arguments={"split": "extra"}, mean=[0.1, 0.2, 0.3], std=[1, 2, 3])
    assert data.num_classes == 4 and data.mean == (0.1, 0.2, 0.3) and data.std == (1, 2, 3)
    assert np.array_equal(data.split("public").images.numpy(), chw(255 - PIXELS[:7]))
    assert own(Split, num_classes=7).num_classes == 7
    with pytest.raises(InputError, match=r"no public part.*--data\.public_arguments"):
        own(Split).split("public")


def test_each_split_takes_arguments_of_its_own():
    data = own(Chosen, arguments={"last": 9}, train_arguments={"first": 2, "last": 6}, test_arguments={"first": 6})
    assert np.array_equal(data.split("train").images.numpy(), chw(PIXELS[2:6]))
    assert np.array_equal(data.split("test").images.numpy(), chw(PIXELS[6:9]))
    with pytest.raises(
        InputError, match=r"with \{'first': 0, 'last': 5\} for training and for testing.*--data\.test_arguments"
    ):
        own(Chosen, arguments={"first": 0, "last": 5})


def test_a_data_set_of_torchvision_is_read():
    data = OwnDataModule(
        "torchvision.datasets.FakeData",
        {"size": 5, "image_size": [3, 8, 6], "num_classes": 4},
        test_arguments={"random_offset": 9},
    )
    expected = [np.asarray(image) for image, _ in FakeData(5, [3, 8, 6], 4)]
    assert np.array_equal(data.split("train").images.numpy(), chw(np.stack(expected)))
    assert data.num_classes == 4 and not torch.equal(data.split("train").images, data.split("test").images)


def test_a_data_module_is_read_in_the_order_of_its_data_set_and_prepared_first():
    data, digits = own(DigitsModule), load_digits()
    expected = np.round(digits.images[:60, None] / 16 * 255)
    assert np.abs(data.split("train").images.numpy() - expected[:40]).max() <= 0.5
    assert data.split("train").labels.tolist() == digits.target[:40].tolist()
    # The validation loader, where there is no test loader.
    assert data.split("test").labels.tolist() == digits.target[40:60].tolist()
    assert data._built["train"].called == ["prepare", "fit", "validate"] and data.num_classes == 10


def test_what_a_data_module_draws_is_the_same_in_every_process():
    torch.manual_seed(1)
    first = own(SplitModule)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second = own(SplitModule)
    for name, count in (("train", 30), ("test", 10)):
        assert len(first.split(name)) == count and torch.equal(first.split(name).images, second.split(name).images)
    assert first.num_classes == 12 and torch.equal(before, torch.random.get_rng_state())


def test_random_augmentation_is_drawn_once_from_a_fixed_seed():
    found = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        state = random.getstate()
        found.append(own(Noisy).split("train").images)
        assert random.getstate() == state
    assert torch.equal(*found) and len(found[0].unique()) > 2


def test_a_loader_without_rows_by_number_is_read_once():
    data = own(StreamModule)
    for name in ("train", "test"):
        assert np.array_equal(data.split(name).images.numpy(), chw(PIXELS[[3, 1, 2, 0, 5]]))
        assert data.split(name).labels.tolist() == LABELS[[3, 1, 2, 0, 5]].tolist()


def test_hyperparameters_of_a_data_module_are_its_own_inside_lightnings_command_line():
    from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters_context

    with _given_hyperparameters_context({"source": "x"}, "y"):
        data = own(DigitsModule, arguments={"scale": 0.5})
    assert dict(data._built["train"].hparams) == {"batch_size": 7, "scale": 0.5}


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        (np.full((2, 2), 1.5), 0, r"x, row 1 ranges from 1\.5 to 1\.5: float images lie in \[0, 1\]"),
        (np.full((2, 2), np.nan), 0, r"x, row 1 ranges from nan"),
        (torch.full((1, 2, 2), -0.1), 0, r"x, row 1 ranges from -0\.1"),
        (np.zeros((2, 3), np.uint8), 0, r"x, row 1 has shape \(1, 2, 3\), row 0 has \(1, 2, 2\): resize"),
        (np.zeros((2, 2), np.int64), 0, "x, row 1 is of dtype int64"),
        (torch.zeros(2, 2, 4), 0, r"x, row 1 is of shape \(2, 2, 4\)"),
        (np.zeros(4, np.uint8), 0, r"x, row 1 is of shape \(4\)"),
        ("cat.png", 0, "x, row 1 begins with a str"),
        (Image.new("I", (2, 2)), 0, "x, row 1 is a PIL image of mode I"),
        (np.zeros((2, 2), np.uint8), 0.0, "x, row 1 has a label that is a float"),
        (np.zeros((2, 2), np.uint8), True, "x, row 1 has a label that is a bool"),
        (np.zeros((2, 2), np.uint8), torch.tensor([1, 0]), "x, row 1 has a label that is a Tensor"),
    ],
)
def test_a_bad_row_is_named_with_what_it_is(image, label, message):
    with pytest.raises(InputError, match=rf"^{message}.*\(--option\)$"):
        read_items([(np.zeros((2, 2), np.uint8), 0), (image, label)], 2, "x", "--option")


def test_what_is_no_pair_is_refused():
    for item, message in [((1, 2, 3), "row 0 is a tuple of 3"), (np.zeros(3), "row 0 is a ndarray"), ({"a": 1}, "dict of 1")]:
        with pytest.raises(InputError, match=message):
            read_items([item], 1, "x", "--option")
    with pytest.raises(InputError, match=r"x is empty \(--option\)"):
        read_items([], 0, "x", "--option")


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("gone_module.Gone", {}, r"gone_module\.Gone cannot be imported: ModuleNotFoundError.*\(--data\.source\)"),
        (f"{HERE}.Gone", {}, r"Gone cannot be imported: AttributeError"),
        ("collections.Counter", {}, r"Counter is neither a LightningDataModule nor a torch\.utils\.data\.Dataset"),
        (f"{HERE}.own", {}, r"own is neither"),
        (f"{HERE}.Unnumbered", {}, r"Unnumbered has no rows by number: give it __len__ and __getitem__"),
        (f"{HERE}.Pairs", {"arguments": {"sides": 3}}, r"Pairs cannot be built with .*'sides'.*--data\.arguments"),
        (f"{HERE}.Pairs", {"arguments": {"form": "array"}, "num_classes": 2}, r"--data\.num_classes.*labels range from 0 to 2"),
        (f"{HERE}.Pairs", {"num_classes": 1}, r"num_classes is 1: .*--data\.num_classes"),
        (f"{HERE}.Pairs", {"mean": [0.5]}, r"mean is \[0\.5\]: images of 3 channels .*--data\.mean"),
        (f"{HERE}.Pairs", {"std": [0.5, 0.5, 0.0]}, r"std is .*above 0 \(--data\.std\)"),
        (f"{HERE}.DigitsModule", {"arguments": {"scale": 2.0}}, r"row 0 ranges from 0 to .*\(--data\)"),
        (f"{HERE}.DigitsModule", {"test_arguments": {"scale": 2.0}}, r"test_arguments are .*--data\.test_arguments"),
        (
            f"{HERE}.Pairs",
            {"test_arguments": {"grey": True}},
            r"images of shape \(1, 6, 4\), the training split's are \(3, 6, 4\)",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(source, options, message):
    with pytest.raises(InputError, match=message) as caught:
        OwnDataModule(source, **options).split("test")
    assert "\n" not in str(caught.value)


def test_a_module_that_cannot_be_imported_says_why(tmp_path, monkeypatch):
    (tmp_path / "broken_data.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"broken_data\.Mine cannot be imported: ZeroDivisionError: division by zero"):
        OwnDataModule("broken_data.Mine")
    assert "broken_data" not in sys.modules
