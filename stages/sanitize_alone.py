"""Sanitizing any data set for use elsewhere."""

import io
from pathlib import Path

import numpy as np

from datamodules import DiffusionSanitizeDataModule
from errors import InputError
from files import make_folder, write_bytes
from stages.launch import Launch
from storage.progress import announce


def sanitize_alone(data: DiffusionSanitizeDataModule, launch: Launch, out: Path) -> Path:
    """Fill the store with all ranks, then write ``images`` and ``labels`` as an ``.npz``, order and labels kept.

    Raises:
        InputError: If ``out`` cannot be written.
    """
    if out.suffix != ".npz":
        raise InputError(f"{out} is not an .npz file (--out)")
    make_folder(out.parent, "--out")
    make_folder(data.store.parent, "--data.store")
    data.source.split("train")
    ranks = launch.start()
    data.join(ranks)
    split = data.split("train")
    if ranks.rank == 0:
        with io.BytesIO() as buffer:
            np.savez(buffer, images=split.images.numpy(), labels=split.labels.numpy())
            write_bytes(out, buffer.getvalue())
    announce(f"{len(split)} sanitized images: {out}", ranks)
    ranks.barrier("sanitized")
    return out
