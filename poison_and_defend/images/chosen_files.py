"""The images that a user names one by one, by a list or by a pattern, as names below one folder."""

import glob
import os
from itertools import pairwise
from pathlib import Path

from poison_and_defend.core.errors import InputError, no_images
from poison_and_defend.core.reading.files import plain
from poison_and_defend.images.listing import SUFFIXES, check_name, in_order
from poison_and_defend.images.pictures import NAMES


def choose_files(root: str | list[str], option: str) -> tuple[Path, list[str] | None]:
    """The folder that images lie below, and which of them are meant.

    Args:
        root: A folder, an image file, a pattern such as ``photos/**/*.jpg``, or a list of image files.
        option: What the user should change if there is nothing.

    Returns:
        The folder and the names below it in the order of :func:`poison_and_defend.images.listing.iterate_images`; None for all
        of a folder.

    Raises:
        InputError: If a file is not there, is no image, or is named twice, or a pattern fits none.
    """
    if isinstance(root, list):
        return _below_one(root, option)
    if "\0" in root:
        raise InputError(f"{plain(root)} cannot be the name of a folder or file ({option})")
    path = Path(root)
    if path.is_dir():
        return path, None
    if os.path.lexists(path):
        return _below_one([root], option)
    if glob.has_magic(root):
        found = [name for name in glob.iglob(root, recursive=True) if _suffix(name) in SUFFIXES and not os.path.isdir(name)]  # noqa: PTH112, PTH207
        if not found:
            raise InputError(f"no {NAMES} image fits the pattern {plain(root)} ({option})")
        return _below_one(found, option)
    raise no_images(plain(root), option)


def _below_one(files: list[str], option: str) -> tuple[Path, list[str]]:
    if not files:
        raise InputError(f"the list of images is empty ({option})")
    for name in files:
        if "\0" in name or not os.path.lexists(name):
            raise InputError(f"there is no image {plain(name)} ({option})")
        if _suffix(name) not in SUFFIXES:
            raise InputError(f"{plain(name)} is no {NAMES} image: convert it, or name another ({option})")
    paths = [os.path.abspath(name) for name in files]  # noqa: PTH100 - links stay as they are
    root = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120
    names = in_order([os.path.relpath(path, root) for path in paths])
    twice = next((one for one, two in pairwise(names) if one == two), None)
    if twice is not None:
        raise InputError(f"{plain(twice)} is named twice ({option})")
    for name in names:
        check_name(name, Path(root), option)
    return Path(root), names


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path costs ten times a string
