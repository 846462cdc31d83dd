"""Data sets in MNIST's four files, with a part set aside that an attacker is taken not to reach."""

from pathlib import Path
from typing import ClassVar

from torchvision.datasets import MNIST

from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules.base import ArrayDataModule, SplitName
from poison_and_defend.images.arrays import Split, make_split
from poison_and_defend.images.idx import read_idx

_COUNT = 60_000
_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class IdxDataModule(ArrayDataModule):
    """28 x 28 grey levels of ten classes: the training file in its own order, and the test file.

    The last ``public_size`` images of the training file are the *public* part, what trusted models may see; those before them
    are the training split.

    Args:
        root: Folder that holds the four files, or torchvision's folder with them; compressed or not.
        download: Whether torchvision may fetch the files into ``root``.
        public_size: How many training images are set aside, 1 to 59,999.
        batch_size: Rows per training batch, over all ranks.
        seed: Seeds the order of training rows.
    """

    title: ClassVar[str]
    origin: ClassVar[type[MNIST]]
    num_classes = 10
    image_shape = (1, 28, 28)

    def __init__(self, root: Path, download: bool, public_size: int, batch_size: int, seed: int) -> None:
        super().__init__(batch_size, seed)
        if not 1 <= public_size < _COUNT:
            raise InputError(
                f"public_size is {public_size}: {self.title} has {_COUNT:,} training images to split (--data.public_size)"
            )
        self.root, self.download, self.public_size = root, download, public_size

    def prepare_data(self) -> None:
        """Download, if asked to; called on one process per node."""
        if self.download:
            self.origin(self.root, download=True)

    def load(self, name: SplitName) -> Split:
        """See :meth:`ArrayDataModule.load`."""
        files = self._files()
        images, labels = (read_idx(files[file]) for file in (_FILES[2:] if name == "test" else _FILES[:2]))
        what = f"{self.title} {name} under {self.root}"
        if images.shape[1:] != self.image_shape[1:] or labels.shape != images.shape[:1]:
            shapes = f"images are of shape {images.shape} and labels of {labels.shape}"
            raise InputError(f"{what}: {shapes}, not (N, 28, 28) and (N,) (--data.root)")
        if name != "test":
            cut = len(images) - self.public_size
            if cut < 1:
                raise InputError(f"public_size is {self.public_size}: {what} has {len(images)} images (--data.public_size)")
            part = slice(0, cut) if name == "train" else slice(cut, None)
            images, labels = images[part], labels[part]
        return make_split(images, labels, self.num_classes, what)

    def _files(self) -> dict[str, Path]:
        """Where each of the four files is.

        Raises:
            InputError: If one of them is not there.
        """
        for folder in (self.root, self.root / self.origin.__name__ / "raw"):
            paths = {file: [folder / file, folder / f"{file}.gz"] for file in _FILES}
            found = {file: path for file, both in paths.items() for path in reversed(both) if path.exists()}
            missing = [file for file in _FILES if file not in found]
            if not missing:
                return found
            if found:
                raise InputError(f"{self.title} under {folder} is there in part: {missing[0]} is missing (--data.root)")
        raise InputError(
            f"{self.title} is not under {self.root}: name the folder of its four files, or of {self.origin.__name__}/raw "
            "(--data.root), or fetch it (--data.download true)"
        )
