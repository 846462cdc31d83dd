"""What every data set has in common: whole splits as arrays, and the loaders over them."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from poison_and_defend.certification.origins import Origin
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.images.arrays import Split

SplitName = Literal["public", "train", "test"]


class _ArrayDataset(Dataset[tuple[Tensor, Tensor]]):
    """Batches straight from the arrays: one indexing operation a batch."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.split.images[index], self.split.labels[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.split.images[indices], self.split.labels[indices]


def _as_is(batch: Any) -> Any:
    return batch


class ArrayDataModule(L.LightningDataModule, ABC):
    """Base of every data set; a leaf says where its splits come from.

    A batch is a pair of uint8 images ``(B, C, H, W)`` and int64 labels ``(B,)``; models scale it themselves. The order of
    training rows is ``torch.randperm`` of a generator seeded with ``seed + epoch``, so that other code can repeat it.

    Hyper-parameters are plain attributes: `save_hyperparameters` in a nested datamodule stores the outer one's arguments.

    Args:
        batch_size: Rows per training batch, over all ranks.
        seed: Seeds the order of training rows.
    """

    name: str
    """Name in records."""

    num_classes: int
    image_shape: tuple[int, int, int]

    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    """Per-channel statistics that models normalize with, in [0, 1] units."""

    statistics_origin: Origin = "fixed"
    """Where they came from; ``raw`` if they were computed from the training split, which voids certificates."""

    def __init__(self, batch_size: int = 128, seed: int = 0) -> None:
        super().__init__()
        at_least("batch_size", batch_size, 1, "--data.batch_size")
        self.batch_size = batch_size
        self.seed = seed
        self._splits: dict[SplitName, Split] = {}

    @abstractmethod
    def load(self, name: SplitName) -> Split:
        """Read a split from wherever it comes from; a missing *public* part raises `InputError`."""

    def split(self, name: SplitName) -> Split:
        """The whole split as arrays, read once."""
        if name not in self._splits:
            self._splits[name] = self.load(name)
        return self._splits[name]

    def row_numbers(self) -> Tensor:
        """``(N,)`` int64: for each training row its number in the data set that was first read, which keys its noise."""
        return torch.arange(len(self.split("train")))

    def setup(self, stage: str) -> None:
        """Read what the stage needs."""
        if stage == "fit":
            self.split("train")
        self.split("test")

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Shuffled training batches; each rank gets its share of every epoch's permutation."""
        dataset = _ArrayDataset(self.split("train"))
        rank, world = self._ranks()
        sampler: DistributedSampler[Any] = DistributedSampler(dataset, world, rank, shuffle=True, seed=self.seed)
        return DataLoader(dataset, max(1, self.batch_size // world), sampler=sampler, collate_fn=_as_is)

    def _test_loader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        dataset = _ArrayDataset(self.split("test"))
        rank, world = self._ranks()
        if len(dataset) < world:
            raise InputError(f"{len(dataset)} test images cannot be shared by {world} ranks (--trainer.devices)")
        # Lightning's default pads to a multiple of the world size and so counts some images twice.
        sampler = UnrepeatedDistributedSampler(dataset, world, rank, shuffle=False)
        # By name, since Lightning builds the loader anew for `predict`.
        return DataLoader(dataset, batch_size=512, sampler=sampler, collate_fn=_as_is)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """The test split in order: what is watched during training. Nothing is selected by it."""
        return self._test_loader()

    def test_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """The test split in order, each row exactly once over all ranks."""
        return self._test_loader()

    def predict_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """The test split in order, each row exactly once over all ranks."""
        return self._test_loader()


def per_channel(
    mean: list[float] | None, std: list[float] | None, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Statistics as given, 0.5 where none are.

    Raises:
        InputError: If there are more or fewer than channels, or a standard deviation is not above 0.
    """
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) != channels:
            raise InputError(f"{name} is {values}: images of {channels} channels need as many numbers (--data.{name})")
    if std is not None and not min(std) > 0:
        raise InputError(f"std is {list(std)}: each channel's must be above 0 (--data.std)")
    half = (0.5,) * channels
    return half if mean is None else tuple(mean), half if std is None else tuple(std)
