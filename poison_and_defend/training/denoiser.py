"""Training a denoiser on public images with a Lightning Trainer, and exporting it for the defence."""

import shutil
from pathlib import Path

import lightning as L

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import make_folder
from poison_and_defend.datamodules import ArrayDataModule, Split
from poison_and_defend.datamodules.base import SplitName
from poison_and_defend.datamodules.wrappers.poisoned import WrapperDataModule
from poison_and_defend.datamodules.wrappers.rows import public_split, used_rows
from poison_and_defend.images.row_digests import write_training_rows
from poison_and_defend.lightning_modules.denoiser import DenoiserModule
from poison_and_defend.training.requeue import refuse_foreign_checkpoint


class PublicDataModule(WrapperDataModule):
    """The public part of a data set as its training split: what a pretrained model may see.

    Args:
        source: The data set.
        setups: JSON file of setups; rows that they train on, and bases, are left out.
        train_size: Size of each victim's training set when setups come from a file.
        num_setups: How many setups of the file to respect.
        batch_size: Rows per step.
    """

    def __init__(
        self,
        source: ArrayDataModule,
        setups: str | None = None,
        train_size: int | None = None,
        num_setups: int = 100,
        batch_size: int | None = None,
    ) -> None:
        super().__init__(source, batch_size)
        self.setups, self.train_size, self.num_setups = setups, train_size, num_setups

    def load(self, name: SplitName) -> Split:
        """See :meth:`ArrayDataModule.load`."""
        if name != "train":
            return self.source.split(name)
        return public_split(self.source, used_rows(self.source, self.setups, self.train_size, self.num_setups))


def train_denoiser(model: DenoiserModule, data: PublicDataModule, trainer: L.Trainer, out: str, *, half: bool) -> Path:
    """Train and write a diffusers folder, whole or not at all, and beside the weights which images they have seen.

    Args:
        model: What to train.
        data: Public images.
        trainer: Any Lightning Trainer.
        out: Folder to write; must not exist.
        half: Store float16 weights.

    Raises:
        InputError: If ``out`` exists or cannot be written, or the model does not fit the images.
    """
    target = Path(out)
    if target.exists():
        raise InputError(f"{target} exists: choose another folder or remove it (--out)")
    make_folder(target.parent, "--out")
    model.denoiser().check_images(data.image_shape)
    data.split("train")
    refuse_foreign_checkpoint(trainer, f"denoiser {target.absolute()}")
    trainer.fit(model, data)
    if trainer.is_global_zero:
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        model.export(partial, half=half)
        write_training_rows(partial, data.split("train").images)
        partial.rename(target)
    trainer.strategy.barrier("denoiser exported")
    return target
