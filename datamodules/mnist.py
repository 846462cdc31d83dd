"""MNIST, from its files."""

from pathlib import Path

from torchvision.datasets import MNIST

from poison_and_defend.datamodules.idx import IdxDataModule


class MNISTDataModule(IdxDataModule):
    """MNIST (LeCun et al., 1998), 28 x 28 grey levels: the training file in its own order, and 10,000 test images.

    The last ``public_size`` images of the training file are the *public* part, what trusted models may see; those before them
    are the training split.

    Args:
        root: Folder that holds torchvision's ``MNIST/raw``, or the four files themselves, compressed or not.
        download: Whether torchvision may fetch the files into ``root``.
        public_size: How many training images are set aside, 1 to 59,999.
        batch_size: Rows per training batch, over all ranks.
        seed: Seeds the order of training rows.

    Raises:
        InputError: If ``public_size`` is out of range; when a split is read, if files are missing or damaged.
    """

    name = "mnist"
    title = "MNIST"
    origin = MNIST

    def __init__(
        self, root: str = ".data", download: bool = False, public_size: int = 10_000, batch_size: int = 128, seed: int = 0
    ) -> None:
        super().__init__(Path(root), download, public_size, batch_size, seed)
