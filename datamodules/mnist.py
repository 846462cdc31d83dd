"""MNIST through torchvision, with a part set aside that an attacker is taken not to reach."""

from pathlib import Path

import torch
from torchvision.datasets import MNIST

from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules.base import ArrayDataModule, SplitName
from poison_and_defend.images.arrays import Split, make_split

_FILES = 4
_MOST_BYTES = 1 << 26  # Of a file, uncompressed: the largest has 47 million.


class _RawMNIST(MNIST):
    """What torchvision reads, but for the pickles that it kept years ago."""

    @property
    def raw_folder(self) -> str:
        return f"{self.root}/MNIST/raw"

    def _check_legacy_exist(self) -> bool:
        return False


class MNISTDataModule(ArrayDataModule):
    """MNIST (LeCun et al., 1998), 28 x 28 grey levels: the training file in its own order, and 10,000 test images.

    The last ``public_size`` images of the training file are the *public* part, what trusted models may see; those before them
    are the training split.

    Args:
        root: Folder that holds torchvision's ``MNIST/raw``.
        download: Whether torchvision may fetch the files into ``root``.
        public_size: How many training images are set aside, 1 to 59,999.
        batch_size: Rows per training batch, over all ranks.
        seed: Seeds the order of training rows.

    Raises:
        InputError: If ``public_size`` is out of range; when a split is read, if the files are missing or damaged.
    """

    name = "mnist"
    num_classes = 10
    image_shape = (1, 28, 28)

    def __init__(
        self, root: str = ".data", download: bool = False, public_size: int = 10_000, batch_size: int = 128, seed: int = 0
    ) -> None:
        super().__init__(batch_size, seed)
        if not 1 <= public_size < 60_000:
            raise InputError(f"public_size is {public_size}: MNIST has 60,000 training images to split (--data.public_size)")
        self.root, self.download, self.public_size = Path(root), download, public_size

    def prepare_data(self) -> None:
        """Download, if asked to; called on one process per node."""
        if self.download:
            MNIST(self.root, download=True)

    def load(self, name: SplitName) -> Split:
        """See :meth:`ArrayDataModule.load`."""
        try:
            if any(path.stat().st_size > _MOST_BYTES for path in (self.root / "MNIST" / "raw").glob("*-ubyte")):
                raise ValueError("a file is too large")
            data = _RawMNIST(self.root, train=name != "test", download=False)
            if tuple(data.data.shape[1:]) != self.image_shape[1:]:
                raise ValueError("images of another size")
        # torchvision says "not found" and "cannot reshape" alike by RuntimeError; a foreign file fails an assertion.
        except (RuntimeError, AssertionError, ValueError, LookupError, TypeError, MemoryError, OSError) as error:
            files = list((self.root / "MNIST" / "raw").glob("*-ubyte"))
            if len(files) < _FILES:
                raise InputError(
                    f"MNIST is not under {self.root}: name the folder of MNIST/raw (--data.root) or fetch it "
                    "(--data.download true)"
                ) from error
            raise InputError(f"the files of MNIST under {self.root} are damaged: fetch them again (--data.root)") from error
        images, labels = data.data, torch.as_tensor(data.targets)
        if name != "test":
            cut = len(images) - self.public_size
            part = slice(0, cut) if name == "train" else slice(cut, None)
            images, labels = images[part], labels[part]
        return make_split(images, labels, self.num_classes, f"MNIST {name} under {self.root}")
