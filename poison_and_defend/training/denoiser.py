"""Training a denoiser on public images with a Lightning Trainer, and exporting it for the defence."""

import shutil
from pathlib import Path

import lightning as L

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import make_folder
from poison_and_defend.datamodules.wrappers.public import PublicDataModule
from poison_and_defend.images.row_digests import write_training_rows
from poison_and_defend.lightning_modules.denoiser import DenoiserModule
from poison_and_defend.training.requeue import refuse_foreign_checkpoint


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
