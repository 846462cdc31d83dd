"""Fashion-MNIST: photographs of products, 7,000 of which come with the package."""

from pathlib import Path

import numpy as np
from torchvision.datasets import FashionMNIST

from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules.base import SplitName
from poison_and_defend.datamodules.idx import IdxDataModule
from poison_and_defend.images.arrays import Split, make_split
from poison_and_defend.images.embedded import EMBEDDED, read_embedded


class FashionMNISTDataModule(IdxDataModule):
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): 28 x 28 grey photographs of clothes, shoes and bags, ten classes.

    Without ``root`` it is what comes with the package: of the training file the first 4,000 images are the *public* part, what
    trusted models may see, and the next 2,000 the training split; the first 1,000 of the test file are the test split. With
    ``root`` it is the whole set, whose last ``public_size`` training images are the public part.

    Args:
        root: Folder of the four files or of torchvision's ``FashionMNIST/raw``, compressed or not, such as Debian's
            ``/usr/share/datasets/fashion-mnist``; null for the images that come with the package.
        download: Whether torchvision may fetch the files into ``root``.
        public_size: How many training images of the whole set are set aside, 1 to 59,999.
        train_size: How many images the training split has, from its first on; by default all of them.
        batch_size: Rows per training batch, over all ranks.
        seed: Seeds the order of training rows.

    Raises:
        InputError: If ``public_size`` or ``train_size`` is out of range, or ``download`` has no ``root`` to go to; when a
            split is read, if files are missing or damaged.
    """

    name = "fashion_mnist"
    title = "Fashion-MNIST"
    origin = FashionMNIST
    mean = (0.2860,)
    std = (0.3530,)

    def __init__(
        self,
        root: str | None = None,
        download: bool = False,
        public_size: int = 10_000,
        train_size: int | None = None,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__(EMBEDDED if root is None else Path(root), download, public_size, batch_size, seed)
        self.embedded = root is None
        if self.embedded and download:
            raise InputError("download is true: name the folder that Fashion-MNIST is fetched into (--data.root)")
        if self.embedded:
            # Other rows than the whole set's, and a digest of the whole must not pass for one of these.
            self.name = "fashion_mnist_7000"
        if train_size is not None:
            at_least("train_size", train_size, 1, "--data.train_size")
        self.train_size = train_size

    def load(self, name: SplitName) -> Split:
        """See :meth:`ArrayDataModule.load`."""
        split = super().load(name) if not self.embedded else self._embedded(name)
        if name != "train" or self.train_size is None:
            return split
        if self.train_size > len(split):
            raise InputError(f"train_size is {self.train_size}: there are {len(split)} training images (--data.train_size)")
        return split.subset(np.arange(self.train_size))

    def _embedded(self, name: SplitName) -> Split:
        images, labels = f"{name}_images", f"{name}_labels"
        arrays = read_embedded("fashion_mnist.npz", (images, labels))
        return make_split(arrays[images], arrays[labels], self.num_classes, f"{self.title} {name}")
