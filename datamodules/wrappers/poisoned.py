"""A data set some of whose training images were replaced by poisons."""

from pathlib import Path

import torch
from torch import Tensor

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules.base import ArrayDataModule, Split, SplitName
from poison_and_defend.datamodules.wrappers.base import WrapperDataModule
from poison_and_defend.poisons.files import load_poisons


class PoisonedDataModule(WrapperDataModule):
    """Injects the poisons of one setup into a data set.

    Args:
        source: The clean data set.
        poisons: A ``setup_*.safetensors`` file that `craft` wrote.
        batch_size: Rows per training batch, over all ranks; None keeps the source's.
        clean: Train on the bases instead: the same setup without the attack.

    Raises:
        InputError: If the file is unusable or was made for other data.
    """

    def __init__(self, source: ArrayDataModule, poisons: str, batch_size: int | None = None, clean: bool = False) -> None:
        super().__init__(source, batch_size)
        self.path, self.poisons = poisons, load_poisons(Path(poisons))
        self.clean = clean
        if tuple(self.poisons.images.shape[1:]) != source.image_shape:
            raise InputError(
                f"{poisons} holds images of shape {tuple(self.poisons.images.shape[1:])}, the data's are {source.image_shape}"
            )

    def load(self, name: SplitName) -> Split:
        """See :meth:`ArrayDataModule.load`."""
        split = self.source.split(name)
        if name != "train":
            return split
        try:
            self.poisons.check_against(split.images, split.labels, self.source.split("test").labels)
        except InputError as error:
            raise InputError(f"{self.path}: {error} (--data.poisons)") from error
        rows = torch.from_numpy(self.poisons.setup.rows(len(split)))
        images = split.images[rows]
        if not self.clean:
            images[torch.from_numpy(self.poisons.setup.positions)] = self.poisons.images
        return Split(images, split.labels[rows])

    def targets(self) -> list[PoisonSet]:
        """The setup that was injected."""
        return [self.poisons]

    def row_numbers(self) -> Tensor:
        """See :meth:`ArrayDataModule.row_numbers`."""
        return self.source.row_numbers()[torch.from_numpy(self.poisons.setup.rows(len(self.source.split("train"))))]
