"""CIFAR-10 through torchvision."""

from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10

from datamodules.base import ArrayDataModule, Split, SplitName, make_split
from errors import InputError


class CIFAR10DataModule(ArrayDataModule):
    """CIFAR-10 (Krizhevsky, 2009) in its canonical order: 50,000 training and 10,000 test images.

    It has no public part of its own; an experiment whose setups train on a subset takes the rest as public.

    Args:
        root: Folder that holds ``cifar-10-batches-py``.
        download: Whether torchvision may fetch the archive into ``root``.
        batch_size: Rows per training batch, over all ranks.
        seed: Seeds the order of training rows.
    """

    name = "cifar10"
    num_classes = 10
    image_shape = (3, 32, 32)
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2023, 0.1994, 0.2010)

    def __init__(self, root: str = ".data", download: bool = False, batch_size: int = 128, seed: int = 0) -> None:
        super().__init__(batch_size, seed)
        self.root = Path(root)
        self.download = download

    def prepare_data(self) -> None:
        """Download, if asked to; called on one process per node."""
        if self.download:
            CIFAR10(self.root, download=True)

    def load(self, name: SplitName) -> Split:
        """See :meth:`ArrayDataModule.load`."""
        if name == "public":
            raise InputError("CIFAR-10 has no public part: pretrain on rows that no setup trains on (--setups, --train_size)")
        try:
            data = CIFAR10(self.root, train=name == "train", download=False)
        except RuntimeError as error:
            raise InputError(
                f"CIFAR-10 is not under {self.root}: name its folder (--data.root) or fetch it (--data.download true)"
            ) from error
        return make_split(data.data, np.asarray(data.targets), self.num_classes, f"CIFAR-10 {name}")
