"""Which image files a folder holds, in an order that does not depend on the machine."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import plain
from poison_and_defend.images.pictures import NAMES

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
}

# Labels and notes may lie beside images, and are passed over by name; an image must not be. Not from the machine's own table
# of types, which knows other ones on every machine.
_OTHER_IMAGES = {
    *(".apng", ".arw", ".avif", ".bpg", ".cr2", ".cr3", ".cur", ".dcm", ".dcx", ".dds", ".dib", ".djvu", ".dng", ".emf"),
    *(".eps", ".exr", ".fits", ".flif", ".fts", ".hdr", ".heic", ".heif", ".hif", ".icns", ".ico", ".iff", ".j2c", ".j2k"),
    *(".jng", ".jp2", ".jpc", ".jpf", ".jpx", ".jxl", ".jxr", ".kdc", ".mng", ".mrw", ".nef", ".nii", ".nrw", ".orf"),
    *(".pam", ".pcd", ".pct", ".pcx", ".pef", ".pfm", ".pic", ".pict", ".psb", ".psd", ".qoi", ".raf", ".ras", ".raw"),
    *(".rgb", ".rgba", ".rw2", ".sgi", ".sr2", ".srf", ".srw", ".svg", ".svgz", ".svs", ".tga", ".wdp", ".wmf", ".x3f"),
    *(".xbm", ".xcf", ".xpm"),
}


@dataclass(frozen=True)
class Rules:
    """How a folder is listed.

    Attributes:
        option: What the user should change if it cannot be.
        follow_links: Whether symbolic links may lead out of the root.
        passed: Called with the path below the root of every file and hidden folder that is not taken.
    """

    option: str
    follow_links: bool = False
    passed: Callable[[str], None] = lambda name: None

    def check_link(self, root: str, path: str) -> None:
        """Refuse a link that leads out of the root, unless that was asked for.

        Raises:
            InputError: If it does.
        """
        if not self.follow_links and not is_inside(root, path):
            group, dot, _ = self.option.rpartition(".")
            follow = f"{group}.follow_links" if dot else "--follow_links"
            raise InputError(
                f"{plain(path)} is a link that leads out of {root}: put a copy in its place, or say that links may "
                f"({self.option}; {follow} true)"
            )


def is_inside(root: str, path: str) -> bool:
    """Whether a path, its links followed, lies below a folder without links."""
    found = os.path.realpath(path)
    return found == root or found.startswith(root.rstrip(os.sep) + os.sep)


def list_folders(folder: Path, rules: Rules) -> list[str]:
    """Sorted names of the sub-folders that are not hidden, of which there must be one.

    Raises:
        InputError: If there is none, one is a link that leads out, or the folder cannot be read.
    """
    names = _entries(folder, os.path.realpath(folder), "", rules)[0]
    if not names:
        raise InputError(f"{folder} has no sub-folders: each class needs one ({rules.option})")
    return names


def list_images(folder: Path, rules: Rules, root: Path | None = None) -> list[Path]:
    """Image files under a folder in lexicographic order of their paths; hidden files and what is no image are left out.

    Args:
        folder: What is listed.
        rules: How.
        root: The folder above it that links must not leave; by default itself.

    Raises:
        InputError: If there is no image, one is of another format or has a name that is not UTF-8, links lead out or in a
            circle, or the folder cannot be read.
    """
    inside = os.path.realpath(root or folder)
    # A link that was allowed may well be the folder itself.
    inside = inside if is_inside(inside, str(folder)) else os.path.realpath(folder)
    found = [Path(path) for path in _walk(folder, inside, "", rules, ())]
    if not found:
        raise InputError(f"{folder} holds no {NAMES} images ({rules.option})")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def iterate_images(folder: Path, rules: Rules) -> Iterator[str]:
    """Paths relative to a folder: images that lie in it, then sub-folder after sub-folder, each in order of its paths.

    That is the order of rows of :class:`~poison_and_defend.datamodules.ImageFolderDataModule`. No more than one sub-folder is
    in memory.

    Raises:
        InputError: As :func:`list_images`, but for a folder without images.
    """
    root = os.path.realpath(folder)
    folders, files = _entries(folder, root, "", rules)
    yield from files
    above = (_identity(folder, rules.option),)
    for name in folders:
        found = _walk(folder / name, root, f"{name}/", rules, above)
        yield from sorted(os.path.relpath(path, folder) for path in found)


def in_order(names: list[str]) -> list[str]:
    """Paths below one folder in the order of :func:`iterate_images`."""
    return sorted(names, key=lambda name: ("/" in name, name.partition("/")[0] if "/" in name else "", name))


def check_name(name: str, folder: Path, option: str) -> None:
    """Refuse a name that no list of names could hold.

    Raises:
        InputError: If it is not UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the name {os.fsencode(name)!r} in {str(folder)!a} is not UTF-8: rename it ({option})") from error


def _walk(folder: Path, root: str, below: str, rules: Rules, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    own = _identity(folder, rules.option)
    if own in above:
        raise InputError(f"symbolic links lead from {folder} back to a folder above it: remove the link ({rules.option})")
    folders, files = _entries(folder, root, below, rules)
    yield from (os.path.join(folder, name) for name in files)  # noqa: PTH118 - a Path costs ten times a string
    for name in folders:
        yield from _walk(folder / name, root, f"{below}{name}/", rules, (*above, own))


def _identity(folder: Path, option: str) -> tuple[int, int]:
    try:
        found = folder.stat()
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror} ({option})") from error
    return found.st_dev, found.st_ino


def _entries(folder: Path, root: str, below: str, rules: Rules) -> tuple[list[str], list[str]]:
    """Sorted names of sub-folders and of image files."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                is_folder = entry.is_dir()
                suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - likewise
                if name.startswith(".") or not (is_folder or suffix in SUFFIXES):
                    if not is_folder and suffix in _OTHER_IMAGES and not name.startswith("."):
                        raise InputError(
                            f"{plain(folder / name)} is of a format that is not read ({NAMES} are): convert or remove it "
                            f"({rules.option})"
                        )
                    rules.passed(f"{below}{name}{'/' if is_folder else ''}")
                    continue
                check_name(name, folder, rules.option)
                if entry.is_symlink():
                    rules.check_link(root, entry.path)
                (folders if is_folder else files).append(name)
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror} ({rules.option})") from error
    return sorted(folders), sorted(files)
