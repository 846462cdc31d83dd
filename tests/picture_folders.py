"""Folders of real image files, as people have them, and what was made of them."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from poison_and_defend.storage.verify import verify


def photo(number: int, width: int = 16, height: int = 16) -> Image.Image:
    """A piece of one of scikit-learn's two photographs."""
    image = load_sample_images().images[number % 2]
    top, left = (number * 37) % (427 - height), (number * 53) % (640 - width)
    return Image.fromarray(np.ascontiguousarray(image[top : top + height, left : left + width]))


def write_photos(folder: Path, count: int, classes: int = 2) -> Path:
    """``count`` PNG files of 16 x 16 in class folders."""
    for number in range(count):
        path = folder / f"class{number % classes}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(number).save(path)
    return folder


def write_every_kind(folder: Path) -> Path:
    """One file of each kind that is understood, in two classes and a folder below one of them."""
    (folder / "birds" / "small").mkdir(parents=True)
    (folder / "trees").mkdir()
    photo(0).save(folder / "birds" / "plain.jpg", quality=95)
    photo(1, 40, 23).save(folder / "birds" / "larger.webp", lossless=True)
    photo(2, 9, 5).save(folder / "birds" / "small" / "tiny.png")
    photo(3).convert("L").save(folder / "trees" / "grey.jpeg")
    photo(4).convert("P").save(folder / "trees" / "palette.png")
    clear = photo(5).convert("RGBA")
    clear.putalpha(0)
    clear.save(folder / "trees" / "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    photo(6, 30, 18).save(folder / "trees" / "turned.jpg", exif=exif, quality=95)
    photo(7).convert("CMYK").save(folder / "trees" / "press.jpg")
    Image.fromarray(np.linspace(0, 65535, 256).reshape(16, 16).astype(np.uint16)).save(folder / "trees" / "deep.png")
    (folder / "trees" / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    """Contents of all files by their paths."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check(place: Path, **options):
    """Prove that a sanitized set is whole; raises `InputError` otherwise."""
    return verify(place, lambda done, total: None, **options)
