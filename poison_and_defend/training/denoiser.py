"""Training a denoiser on public images with a Lightning Trainer, and exporting it for the defence."""

import shutil
from pathlib import Path

import lightning as L

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import make_folder
from poison_and_defend.datamodules.wrappers.public import PublicDataModule
from poison_and_defend.diffusion.find_denoiser import find_denoiser
from poison_and_defend.images.row_digests import Digests, read_training_rows, write_training_rows
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
        InputError: If ``out`` exists or cannot be written, the model does not fit the images, or it begins with a denoiser
            of which nobody knows what it has seen.
    """
    target = Path(out)
    if target.exists():
        raise InputError(f"{target} exists: choose another folder or remove it (--out)")
    make_folder(target.parent, "--out")
    model.denoiser().check_images(data.image_shape)
    data.split("train")
    earlier = None if model.begin_with is None else _seen(model.begin_with)
    refuse_foreign_checkpoint(trainer, f"denoiser {target.absolute()}")
    trainer.fit(model, data)
    if trainer.is_global_zero:
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        model.export(partial, half=half)
        write_training_rows(partial, data.split("train").images, earlier)
        partial.rename(target)
    trainer.strategy.barrier("denoiser exported")
    return target


def _seen(source: str) -> Digests:
    """What a denoiser was trained on, which a denoiser that begins with it has seen as well."""
    folder = find_denoiser(source)[1]
    rows = None if folder is None else read_training_rows(folder)
    if rows is None:
        raise InputError(
            f"{source} has no record of the images that it was trained on, so that nobody could say what a denoiser has seen "
            "that begins with it (--model.begin_with)"
        )
    return rows
