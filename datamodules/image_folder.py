"""Images from folders with one sub-folder per class."""

import os
from pathlib import Path

import numpy as np

from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules.base import ArrayDataModule, SplitName, per_channel
from poison_and_defend.images.arrays import Split, make_split
from poison_and_defend.images.decode import check_shape, decode_cached
from poison_and_defend.images.listing import Rules, list_folders, list_images
from poison_and_defend.images.pictures import check_bits

_TRAIN = ("train",)
_TEST = ("test", "val", "valid", "validation")


class ImageFolderDataModule(ArrayDataModule):
    """JPEG, PNG, WebP, BMP, TIFF, GIF and PNM files, one sub-folder per class; classes are numbered by their sorted names.

    Images of any size are cropped around their centre to the wanted shape, a square by default, and scaled. Their EXIF
    rotation is applied, transparent parts become white. Rows are in the order of class, then path. Hidden files, and files
    that are no images, are left out.

    The decoded images are kept as a hidden file in each split's folder, if that can be written to.

    Args:
        train: Folder of the training split, under ``root`` if it is a relative path; by default the folder ``train`` there.
        test: Folder of the test split, with the same class names; by default the first of ``test``, ``val``, ``valid`` and
            ``validation`` that is there.
        public: Folder of images that pretrained models may see, with the same class names; optional.
        size: Height and width that images are scaled to: one number, or ``[height, width]``.
        channels: 3 for RGB, 1 for grey.
        dataset: Name in records; by default that of the folder above ``train``.
        mean: Per-channel mean that models normalize with, in [0, 1] units; by default 0.5.
        std: Per-channel standard deviation that models normalize with, in [0, 1] units; by default 0.5.
        bits: How many bits of a 16-bit grey value are in use, 8 to 16: 12 for a camera that writes 0 to 4,095.
        follow_links: Whether symbolic links may lead out of a split's folder.
        root: Folder of the splits; by default the environment variable POISON_DATA_ROOT, or the working directory.
        batch_size: Rows per training batch, over all ranks.
        seed: Seeds the order of training rows.
    """

    def __init__(
        self,
        train: str | None = None,
        test: str | None = None,
        public: str | None = None,
        size: int | list[int] = 32,
        channels: int = 3,
        dataset: str | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        bits: int = 16,
        follow_links: bool = False,
        root: str | None = None,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, seed)
        height, width = check_shape(size)
        if channels not in (1, 3):
            raise InputError(f"channels is {channels}: 1 (grey) or 3 (RGB) are possible (--data.channels)")
        check_bits(bits, "--data.bits")
        self.bits, self.follow_links = bits, follow_links
        self.image_shape = (channels, height, width)
        self.mean, self.std = per_channel(mean, std, channels)
        folder = Path(root or os.environ.get("POISON_DATA_ROOT", "."))
        given: dict[SplitName, str | None] = {
            "train": train or _find(folder, "train", _TRAIN, root),
            "test": test or _find(folder, "test", _TEST, root),
            "public": public,
        }
        self.folders = {name: folder / path for name, path in given.items() if path is not None}
        self.name = dataset or self.folders["train"].resolve().parent.name
        self.classes = list_folders(self.folders["train"], Rules("--data.train", follow_links))
        self.num_classes = len(self.classes)
        if self.num_classes < 2:
            raise InputError(
                f"{self.folders['train']} has one sub-folder: a classifier needs two classes or more (--data.train)"
            )
        for name, other in self.folders.items():
            _same_classes(self.folders["train"], self.classes, other, Rules(f"--data.{name}", follow_links))

    def prepare_data(self) -> None:
        """Decode on one process per node; the others then read the files that this leaves."""
        for name in self.folders:
            self.split(name)

    def load(self, name: SplitName) -> Split:
        """See :meth:`ArrayDataModule.load`."""
        option = f"--data.{name}"
        if name not in self.folders:
            raise InputError(f"this data set has no {name} part: name its folder ({option})")
        folder = self.folders[name]
        rules = Rules(option, self.follow_links)
        files = [list_images(folder / wanted, rules, folder) for wanted in self.classes]
        images = decode_cached(
            folder,
            [path for group in files for path in group],
            self.image_shape[1:],
            self.image_shape[0],
            text=f"decode {self.name} {name}",
            option=option,
            bits=self.bits,
        )
        labels = np.repeat(np.arange(self.num_classes), [len(group) for group in files])
        return make_split(images, labels, self.num_classes, str(folder))


def _find(folder: Path, split: str, names: tuple[str, ...], root: str | None) -> str:
    """The folder of a split by one of its usual names."""
    found = next((name for name in names if (folder / name).is_dir()), None)
    if found is None:
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
        where = "" if root else ", the working folder," if str(folder) == "." else ", which POISON_DATA_ROOT names,"
        raise InputError(
            f"{folder}{where} has no folder {listed}: name the {split} split's, or the folder that both lie in "
            f"(--data.{split}, --data.root)"
        )
    return found


def _same_classes(train: Path, classes: list[str], folder: Path, rules: Rules) -> None:
    found = set(list_folders(folder, rules))
    differences = (("lacks", sorted(set(classes) - found)), ("also has", sorted(found - set(classes))))
    text = " and ".join(
        f"{verb} {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
        for verb, names in differences
        if names
    )
    if text:
        raise InputError(f"{folder} does not have the classes of {train}: it {text} ({rules.option})")
