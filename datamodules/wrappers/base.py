"""What every data module that wraps another has in common."""

from torch import Tensor

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.datamodules.base import ArrayDataModule, Split, SplitName


class WrapperDataModule(ArrayDataModule):
    """A datamodule that changes another's training images and keeps all else: length, order, labels, other splits.

    Args:
        source: What is wrapped.
        batch_size: Rows per training batch, over all ranks; None keeps the source's.
    """

    def __init__(self, source: ArrayDataModule, batch_size: int | None = None) -> None:
        super().__init__(source.batch_size if batch_size is None else batch_size, source.seed)
        self.source = source
        self.name, self.num_classes, self.image_shape = source.name, source.num_classes, source.image_shape
        self.mean, self.std, self.statistics_origin = source.mean, source.std, source.statistics_origin

    # The Trainer knows only the outermost datamodule, so its hooks are passed on.
    def prepare_data(self) -> None:
        """See `LightningDataModule`."""
        self.source.prepare_data()

    def setup(self, stage: str) -> None:
        """See `LightningDataModule`."""
        self.source.trainer = self.trainer
        self.source.setup(stage)
        super().setup(stage)

    def load(self, name: SplitName) -> Split:
        """See :meth:`ArrayDataModule.load`."""
        return self.source.split(name)

    def targets(self) -> list[PoisonSet]:
        """The poison sets whose targets are worth watching, if any."""
        return self.source.targets() if isinstance(self.source, WrapperDataModule) else []

    def row_numbers(self) -> Tensor:
        """See :meth:`ArrayDataModule.row_numbers`."""
        return self.source.row_numbers()
