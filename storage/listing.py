"""Which image files a folder holds, in an order that does not depend on the machine."""

import mimetypes
import os
from collections.abc import Iterator
from pathlib import Path

from errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp"}


def list_folders(folder: Path, option: str) -> list[str]:
    """Sorted names of the sub-folders that are not hidden, of which there must be one.

    Raises:
        InputError: If there is none, or the folder cannot be read.
    """
    names = _entries(folder, option)[0]
    if not names:
        raise InputError(f"{folder} has no sub-folders: each class needs one ({option})")
    return names


def list_images(folder: Path, option: str) -> list[Path]:
    """Image files under a folder in lexicographic order of their paths; hidden files and what is no image are left out.

    Symbolic links are followed.

    Raises:
        InputError: If there is none, one is of another format or has a name that is not UTF-8, links lead in a circle, or the
            folder cannot be read.
    """
    found = [Path(path) for path in _walk(folder, option, ())]
    if not found:
        raise InputError(f"{folder} holds no JPEG, PNG or WebP images ({option})")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def iterate_images(folder: Path, option: str) -> Iterator[str]:
    """Paths relative to a folder: images that lie in it, then sub-folder after sub-folder, each in order of its paths.

    That is the order of rows of :class:`~datamodules.ImageFolderDataModule`. No more than one sub-folder is in memory.

    Raises:
        InputError: As :func:`list_images`, but for a folder without images.
    """
    folders, files = _entries(folder, option)
    yield from files
    for name in folders:
        yield from sorted(os.path.relpath(path, folder) for path in _walk(folder / name, option, (_identity(folder, option),)))


def _walk(folder: Path, option: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    own = _identity(folder, option)
    if own in above:
        raise InputError(f"symbolic links lead from {folder} back to a folder above it: remove the link ({option})")
    folders, files = _entries(folder, option)
    yield from (os.path.join(folder, name) for name in files)  # noqa: PTH118 - a Path costs ten times a string
    for name in folders:
        yield from _walk(folder / name, option, (*above, own))


def _identity(folder: Path, option: str) -> tuple[int, int]:
    try:
        found = folder.stat()
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror} ({option})") from error
    return found.st_dev, found.st_ino


def _entries(folder: Path, option: str) -> tuple[list[str], list[str]]:
    """Sorted names of sub-folders and of image files."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                is_folder = entry.is_dir()
                suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - likewise
                if not is_folder and suffix not in SUFFIXES:
                    # Labels and notes may lie beside images; an image that is passed over would be missing without a word.
                    if (mimetypes.guess_type(name)[0] or "").startswith("image/"):
                        raise InputError(f"{folder / name} is not a JPEG, PNG or WebP file: convert or remove it ({option})")
                    continue
                try:
                    name.encode()
                except UnicodeEncodeError as error:
                    raise InputError(
                        f"the name {os.fsencode(name)!r} in {str(folder)!a} is not UTF-8: rename it ({option})"
                    ) from error
                (folders if is_folder else files).append(name)
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror} ({option})") from error
    return sorted(folders), sorted(files)
