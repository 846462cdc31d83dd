"""What the images of a sanitized folder are called, and which names are impossible."""

import os
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from pathlib import Path, PurePosixPath
from typing import Literal

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import plain
from poison_and_defend.images.names import Names
from poison_and_defend.images.set_files import IMAGES, MANIFEST, ROWS

Format = Literal["png", "webp"]


def top_folder(name: str) -> str:
    """The first folder of a path, which is an image's class; empty for a file that lies in none."""
    return name.partition("/")[0] if "/" in name else ""


def add_folders(name: str, folders: set[str]) -> None:
    """Add all folders that a path goes through."""
    folder = name.rpartition("/")[0]
    while folder and folder not in folders:
        folders.add(folder)
        folder = folder.rpartition("/")[0]


def possible_names(names: Iterable[str], place: Path, option: str) -> Iterator[str]:
    """Names as they are given, each looked at.

    Raises:
        InputError: If one is longer than the file system takes, or its class is called like a file of our own.
    """
    existing = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
    try:
        longest, deepest = os.pathconf(existing, "PC_NAME_MAX"), os.pathconf(existing, "PC_PATH_MAX")
    except (OSError, ValueError):
        longest, deepest = 255, 4096
    above = len(os.fsencode(place.absolute())) + 1
    for name in names:
        top = top_folder(name)
        if top.lower() in (MANIFEST, ROWS, IMAGES):
            raise InputError(f"a class is called {top}, as a file of a sanitized set is: rename the folder ({option})")
        raw = os.fsencode(name)
        if len(raw) > longest and max(map(len, raw.split(b"/"))) > longest:
            raise InputError(
                f"the name {plain(name)} would have more than {longest} bytes: give the image a shorter one ({option})"
            )
        if above + len(raw) >= deepest:
            raise InputError(
                f"{plain(name)} below {place} would have a path of more than {deepest} bytes: shorten it ({option})"
            )
        yield name


def refuse_file_and_folder(names: Names, form: Format, option: str) -> None:
    """A folder ``a.png`` leaves no place for the image ``a.jpg`` beside it.

    Raises:
        InputError: If there are both.
    """
    folders: set[str] = set()
    for row in range(len(names)):
        add_folders(names[row], folders)
    suspects = {folder for folder in folders if folder.endswith(f".{form}")}
    for row in range(len(names)) if suspects else ():
        if names[row] in suspects:
            raise InputError(
                f"an image would be called {plain(names[row])}, as a folder of images is: rename one of them ({option})"
            )


def output_names(files: Iterable[str], form: Format) -> Iterator[str]:
    """Names with the format's suffix instead of their own.

    Where that would give two images one name, or another order of names, it is put behind their own suffix, for all images
    of that top folder.
    """
    for _, group in groupby(files, key=top_folder):
        names = list(group)
        replaced = [str(PurePosixPath(name).with_suffix(f".{form}")) for name in names]
        sorted_apart = all(one < two for one, two in pairwise(replaced))
        yield from replaced if sorted_apart else (f"{name}.{form}" for name in names)
