"""CIFAR-10 and CIFAR-100 through torchvision."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from torchvision.datasets import CIFAR10, CIFAR100

from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules.base import ArrayDataModule, SplitName
from poison_and_defend.images.arrays import Split, make_split

_MOST_BYTES = 1 << 28  # Of a file; CIFAR-100's largest has half as many.


class CIFAR10DataModule(ArrayDataModule):
    """CIFAR-10 (Krizhevsky, 2009) in its canonical order: 50,000 training and 10,000 test images.

    It has no public part of its own; an experiment whose setups train on a subset takes the rest as public.

    Args:
        root: Folder that holds torchvision's ``cifar-10-batches-py`` or, for CIFAR-100, ``cifar-100-python``.
        download: Whether torchvision may fetch the archive into ``root``.
        batch_size: Rows per training batch, over all ranks.
        seed: Seeds the order of training rows.
    """

    name = "cifar10"
    num_classes = 10
    image_shape = (3, 32, 32)
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2023, 0.1994, 0.2010)

    title: ClassVar[str] = "CIFAR-10"
    reader: ClassVar[type[CIFAR10]] = CIFAR10

    def __init__(self, root: str = ".data", download: bool = False, batch_size: int = 128, seed: int = 0) -> None:
        super().__init__(batch_size, seed)
        self.root = Path(root)
        self.download = download

    def prepare_data(self) -> None:
        """Download, if asked to; called on one process per node."""
        if self.download:
            self.reader(self.root, download=True)

    def load(self, name: SplitName) -> Split:
        """See :meth:`ArrayDataModule.load`."""
        if name == "public":
            raise InputError(
                f"{self.title} has no public part: pretrain on rows that no setup trains on (--setups, --train_size)"
            )
        try:
            for path in (self.root / self.reader.base_folder).iterdir():
                if path.stat().st_size > _MOST_BYTES:
                    raise RuntimeError(f"{path} is too large")
            # These files are pickles. torchvision compares the MD5 of every one with the published before it reads it, which
            # nobody can forge for another file.
            data = self.reader(self.root, train=name == "train", download=False)
        except (RuntimeError, OSError) as error:
            raise InputError(
                f"{self.title} is not under {self.root} with its files as they were published: name its folder (--data.root) "
                "or fetch it (--data.download true)"
            ) from error
        return make_split(data.data, np.asarray(data.targets), self.num_classes, f"{self.title} {name}")


class CIFAR100DataModule(CIFAR10DataModule):
    """CIFAR-100 (Krizhevsky, 2009) with its fine labels, in the canonical order: 50,000 training and 10,000 test images.

    The public benchmark pretrains the networks of its CIFAR-10 transfer track on it.
    """

    name = "cifar100"
    num_classes = 100
    mean = (0.5071, 0.4867, 0.4408)
    std = (0.2675, 0.2565, 0.2761)

    title = "CIFAR-100"
    reader = CIFAR100
