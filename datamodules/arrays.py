"""Images and labels from ``.npz`` files, the exchange format of this field."""

import os
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules.base import ArrayDataModule, SplitName
from poison_and_defend.images.arrays import Split, make_split, read_arrays


class ArraysDataModule(ArrayDataModule):
    """Files with ``images`` (uint8 or float in [0, 1]; NHWC or NCHW) and ``labels`` (integers).

    Args:
        train: The training split; a relative path is looked up under ``root``.
        test: The test split.
        public: Images that pretrained models may see; optional.
        dataset: Name in records; by default the training file's folder.
        train_limit: Keep this many rows of the training split, the first ones; by default all.
        num_classes: By default one more than the largest label of the training split.
        mean: Per-channel mean that models normalize with; by default that of the split that ``statistics_from`` names.
        std: Per-channel standard deviation, likewise.
        statistics_from: ``train``, or ``public`` where a certificate must not depend on the raw training split.
        root: Folder of the files; by default the environment variable POISON_DATA_ROOT, or the working directory.
        batch_size: Rows per training batch, over all ranks.
        seed: Seeds the order of training rows.
    """

    def __init__(
        self,
        train: str,
        test: str,
        public: str | None = None,
        dataset: str | None = None,
        train_limit: int | None = None,
        num_classes: int | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        statistics_from: Literal["train", "public"] = "train",
        root: str | None = None,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, seed)
        folder = Path(root or os.environ.get("POISON_DATA_ROOT", "."))
        given: dict[SplitName, str | None] = {"train": train, "test": test, "public": public}
        self.paths = {name: None if path is None else folder / path for name, path in given.items()}
        self.name = dataset or Path(train).resolve().parent.name
        images, labels = read_arrays(folder / train)
        if train_limit is not None:
            if not 1 <= train_limit <= len(images):
                raise InputError(
                    f"train_limit is {train_limit}: {folder / train} holds {len(images)} images (--data.train_limit)"
                )
            images, labels = images[:train_limit], labels[:train_limit]
        largest = int(labels.max(initial=0)) + 1 if np.issubdtype(labels.dtype, np.integer) else 1
        self.num_classes = largest if num_classes is None else num_classes
        split = make_split(images, labels, self.num_classes, f"{folder / train} (--data.train)")
        self._splits["train"] = split
        channels, height, width = split.images.shape[1:]
        self.image_shape = (channels, height, width)
        if mean is None or std is None:
            self.statistics_origin = "raw" if statistics_from == "train" else "trusted"
            split = split if statistics_from == "train" else self.split("public")
        self.mean, self.std = _statistics(split, mean, std)

    def load(self, name: SplitName) -> Split:
        """See :meth:`ArrayDataModule.load`."""
        path = self.paths[name]
        if path is None:
            raise InputError(f"this data set has no {name} part: name its file (--data.{name})")
        split = make_split(*read_arrays(path), self.num_classes, f"{path} (--data.{name})")
        if tuple(split.images.shape[1:]) != self.image_shape:
            raise InputError(
                f"{path}: images of shape {tuple(split.images.shape[1:])}, the training set's are {self.image_shape}"
            )
        return split


def _statistics(split: Split, mean: list[float] | None, std: list[float] | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    # A few thousand rows fix a channel's mean to a thousandth; a whole-set float copy would be four times the data.
    sample = split.images[:: max(1, len(split) // 4096)].float() / 255
    found = torch.std_mean(sample, dim=(0, 2, 3))
    return (
        tuple(found[1].tolist() if mean is None else mean),
        tuple(found[0].clamp_min(1e-3).tolist() if std is None else std),
    )
