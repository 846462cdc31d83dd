"""Tiny ImageNet from the folders of its archive."""

import os
from pathlib import Path

import numpy as np

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import read_bytes
from poison_and_defend.datamodules.base import ArrayDataModule, SplitName
from poison_and_defend.images.arrays import Split, make_split
from poison_and_defend.images.decode import check_size, decode_cached
from poison_and_defend.images.listing import Rules, list_folders, list_images
from poison_and_defend.images.names import is_below

_OPTION = "--data.root"


class TinyImageNetDataModule(ArrayDataModule):
    """Tiny ImageNet (Le and Yang, 2015): 200 classes of 500 training and 50 validation images, 64 x 64.

    Rows are in the public benchmark's order: classes by WordNet id, images by file name (``x_0, x_1, x_10, x_100``). Its
    transfer track trains on classes 100 to 199 and pretrains on 0 to 99, and counts rows and labels from the first class
    chosen, as here. The test split is the archive's validation part. The folder may hold any subset of the classes.

    It has no public part of its own; an experiment whose setups train on a subset takes the rest as public.

    The decoded images are kept as a hidden file in ``root``, if that can be written to.

    Args:
        root: Folder that holds ``train`` and ``val``.
        first_class: Position of the first class to read, among all sorted by id.
        num_classes: How many to read from there; by default all that follow.
        size: Height and width that images are scaled to.
        only_validation: Whether both splits are of the validation part: the first half of each class to train on, the second
            to test on. For experiments whose denoiser has seen the training part, as ``photos-32`` and ``photos-64`` have.
        follow_links: Whether symbolic links may lead out of ``root``.
        batch_size: Rows per training batch, over all ranks.
        seed: Seeds the order of training rows.
    """

    mean = (0.4802, 0.4481, 0.3975)
    std = (0.2302, 0.2265, 0.2262)

    def __init__(
        self,
        root: str = ".data/tiny-imagenet-200",
        first_class: int = 0,
        num_classes: int | None = None,
        size: int = 64,
        only_validation: bool = False,
        follow_links: bool = False,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, seed)
        check_size(size)
        self.root = Path(root)
        self._rules = Rules(_OPTION, follow_links)
        known = _class_ids(self.root, self._rules)
        if not 0 <= first_class < len(known):
            raise InputError(f"first_class is {first_class}: {root} has classes 0 to {len(known) - 1} (--data.first_class)")
        rest = len(known) - first_class
        if num_classes is not None and not 1 <= num_classes <= rest:
            raise InputError(
                f"num_classes is {num_classes}: from class {first_class} on {root} has {rest}, at least 1 is needed "
                "(--data.num_classes)"
            )
        self.num_classes = rest if num_classes is None else num_classes
        self.classes = known[first_class : first_class + self.num_classes]
        self.image_shape = (3, size, size)
        # Parts of the data set are other data sets: their rows and labels mean something else.
        part = "" if self.num_classes == len(known) else f"_{first_class}_{first_class + self.num_classes - 1}"
        self.only_validation = only_validation
        self.name = f"tiny_imagenet{part}{'_validation' if only_validation else ''}"

    def prepare_data(self) -> None:
        """Decode on one process per node; the others then read the file that this leaves."""
        self.split("train")
        self.split("test")

    def load(self, name: SplitName) -> Split:
        """See :meth:`ArrayDataModule.load`."""
        if name == "public":
            raise InputError(
                "Tiny ImageNet has no public part: pretrain on rows that no setup trains on (--setups, --train_size), or on "
                "other classes (--data.first_class, --data.num_classes)"
            )
        if self.only_validation:
            rows = self._half(second=name == "test")
        else:
            rows = self._train() if name == "train" else self._validation()
        images = decode_cached(
            self.root,
            [path for path, _ in rows],
            self.image_shape[1],
            3,
            text=f"decode Tiny ImageNet {name}",
            option=_OPTION,
        )
        return make_split(images, np.array([label for _, label in rows]), self.num_classes, f"Tiny ImageNet {name}")

    def _train(self) -> list[tuple[Path, int]]:
        return [
            (path, label)
            for label, wnid in enumerate(self.classes)
            for path in list_images(self.root / "train" / wnid / "images", self._rules, self.root)
        ]

    def _half(self, *, second: bool) -> list[tuple[Path, int]]:
        """The first or the second half of each class's validation images by file name, class after class."""
        found, rows = [], self._validation()
        for label, wnid in enumerate(self.classes):
            own = [row for row in rows if row[1] == label]
            if len(own) < 2:
                raise InputError(f"{wnid} has {len(own)} validation images: 2 are needed (--data.only_validation)")
            found += own[len(own) // 2 :] if second else own[: len(own) // 2]
        return found

    def _validation(self) -> list[tuple[Path, int]]:
        folder = self.root / "val"
        labels = {wnid: label for label, wnid in enumerate(self.classes)}
        rows = [
            (folder / "images" / name, labels[wnid])
            for name, wnid in sorted(_annotations(folder / "val_annotations.txt").items())
            if wnid in labels
        ]
        if not rows:
            raise InputError(
                f"{folder / 'val_annotations.txt'} names no image of the {self.num_classes} classes read ({_OPTION})"
            )
        root = os.path.realpath(self.root)
        for path, _ in rows:
            if path.is_symlink():
                self._rules.check_link(root, str(path))
        return rows


def _class_ids(root: Path, rules: Rules) -> list[str]:
    """Sorted ids of the classes that have a training folder and, if ``wnids.txt`` is there, are named by it."""
    if not (root / "train").is_dir():
        raise InputError(f"{root} has no folder named train: it should hold Tiny ImageNet's train and val ({_OPTION})")
    present = list_folders(root / "train", rules)
    listed = root / "wnids.txt"
    if not listed.exists():
        return present
    named = set(_text(listed).split())
    known = [wnid for wnid in present if wnid in named]
    if not known:
        raise InputError(f"{root / 'train'} has none of the classes that {listed} names ({_OPTION})")
    return known


def _annotations(path: Path) -> dict[str, str]:
    """File name to class id."""
    found = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        fields = line.split()
        if len(fields) < 2:
            raise InputError(f"{path}: line {number} is not a file name and a class id: {line[:40]!r} ({_OPTION})")
        if "/" in fields[0] or not is_below(fields[0]):
            raise InputError(f"{path}: line {number} names a file elsewhere, {fields[0][:80]!a} ({_OPTION})")
        found[fields[0]] = fields[1]
    return found


def _text(path: Path) -> str:
    try:
        return read_bytes(path, _OPTION).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file: {error.reason} ({_OPTION})") from error
