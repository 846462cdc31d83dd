"""Folders of images, their decoded copies, and pictures that are named in options."""

import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from poison_and_defend.attacks.threat.trigger import PatchTrigger
from poison_and_defend.cleaning.data_task import SanitizeData
from poison_and_defend.cleaning.run import sanitize_alone
from poison_and_defend.cleaning.task import SanitizeTask
from poison_and_defend.datamodules import (
    ImageFolderDataModule,
)
from poison_and_defend.transforms.pixel_file import PixelFile
from tests.fuzzing.artefacts.base import ONE, Artefact, Read
from tests.fuzzing.artefacts.sanitized import check_set
from tests.picture_folders import photo, write_photos

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP", "tiff": "TIFF", "gif": "GIF", "ppm": "PPM"}


def _make_images(folder: Path) -> None:
    for number, (suffix, form) in enumerate(FORMATS.items()):
        place = folder / "set" / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        photo(number, 12, 9).save(place / f"picture.{suffix}", form)
    deep = np.arange(108, dtype=np.uint16).reshape(9, 12) * 600
    Image.fromarray(deep).save(folder / "set" / "class0" / "deep.png")


def _read_images(folder: Path) -> None:
    data = ImageFolderDataModule("set", "set", size=8, root=str(folder))
    data.split("train")


def _sanitize_images(folder: Path) -> None:
    task = SanitizeTask(str(folder / "out"), SanitizeData(str(folder / "set"), 3), "noise_only", sigma=0.1, noise_seed=0)
    sanitize_alone(task, ONE)
    check_set(folder / "out")


def _make_cache(folder: Path) -> None:
    write_photos(folder / "set", 4)
    for path in (folder / "set").rglob("*.png"):
        os.utime(path, (1, 1))
    _read_images(folder)
    (made,) = (folder / "set").glob(".decoded-*.npy")
    made.rename(folder / "cache.npy")


def _read_cache(folder: Path) -> None:
    probe = shutil.copytree(folder / "set", folder / "probe")
    ImageFolderDataModule("probe", "probe", size=8, root=str(folder)).split("train")
    (name,) = (path.name for path in probe.glob(".decoded-*.npy"))
    os.replace(folder / "cache.npy", folder / "set" / name)
    _read_images(folder)


def _make_pixels(folder: Path) -> None:
    PixelFile(folder / "pixels.npy").read_or_make(1000, lambda array: array.fill(7))


def _read_pixels(folder: Path) -> None:
    def fill(array: np.ndarray) -> None:
        array.fill(7)

    assert (PixelFile(folder / "pixels.npy").read_or_make(1000, fill) == 7).all()


def _make_picture(folder: Path) -> None:
    photo(0).save(folder / "trigger.png")


def _read_picture(folder: Path) -> None:
    PatchTrigger(4, image=str(folder / "trigger.png")).build((3, 32, 32))


MAKERS: dict[str, Read] = {
    "images": _make_images,
    "decoded images": _make_cache,
    "sanitized pixels": _make_pixels,
    "trigger": _make_picture,
}


def artefacts() -> list[Artefact]:
    """In an order that is always the same."""
    return [
        *(
            Artefact("images", f"set/class{number % 2}/picture.{suffix}", read)
            for number, suffix in enumerate(FORMATS)
            for read in (_read_images, _sanitize_images)
        ),
        Artefact("images", "set/class0/deep.png", _read_images),
        Artefact("decoded images", "cache.npy", _read_cache),
        Artefact("sanitized pixels", "pixels.npy", _read_pixels),
        Artefact("trigger", "trigger.png", _read_picture),
    ]
