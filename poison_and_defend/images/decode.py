"""Folders of image files as one array: decoded once by threads, kept beside the files, memory-mapped from then on."""

import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import create_mapped, digest, partial_path
from poison_and_defend.core.processes.ranks import is_first_rank
from poison_and_defend.core.progress import StoreProgress
from poison_and_defend.core.reading.arrays import read_array
from poison_and_defend.core.reading.files import plain, read_regular
from poison_and_defend.images.pictures import MAX_FILE_BYTES, UnreadableImageError, fit_shape, open_image, to_array
from poison_and_defend.images.set_files import MANIFEST, ROWS

_CHUNK = 64
_VERSION = 2  # Raised when decoding changes, so that no older cache is read.


def check_size(size: int) -> None:
    """Refuse a side that no image has.

    Raises:
        InputError: If ``size`` is below 1.
    """
    if size < 1:
        raise InputError(f"size is {size}: an image needs at least 1 pixel a side (--data.size)")


def check_shape(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width, of which one number stands for both.

    Raises:
        InputError: If there are more, or one is below 1.
    """
    if isinstance(size, int):
        check_size(size)
        return size, size
    if len(size) != 2 or min(size) < 1:
        raise InputError(
            f"size is {list(size)}: it is one number, or a height and a width of at least 1 pixel, for example --data.size "
            "[32,24] (--data.size)"
        )
    return size[0], size[1]


def decode_images(
    paths: Sequence[Path],
    size: int | tuple[int, int],
    channels: int,
    *,
    option: str,
    bits: int = 16,
    out: NDArray[np.uint8] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.uint8]:
    """Decode image files: turned as EXIF says, the central part of the wanted shape, scaled, transparency over white.

    Threads suffice, since Pillow decodes without the interpreter's lock. The bytes do not depend on their number.

    Args:
        paths: Files of any of :data:`poison_and_defend.images.pictures.FORMATS`, size and mode.
        size: Height and width of the result, or the side of a square. An image that only needs cropping keeps its pixels.
        channels: 3 for RGB, 1 for grey.
        option: What the user should change if a file is unusable.
        bits: How many bits of a 16-bit grey value are in use, 8 to 16.
        out: Where to put them, ``(N, channels, height, width)``.
        progress: Called with the number of images done and of all.

    Returns:
        ``(N, channels, height, width)`` uint8, in the order of ``paths``.

    Raises:
        InputError: For the first file that cannot be decoded.
    """
    height, width = size if isinstance(size, tuple) else (size, size)
    images = np.empty((len(paths), channels, height, width), np.uint8) if out is None else out

    def decode_chunk(start: int) -> None:
        for row in range(start, min(start + _CHUNK, len(paths))):
            images[row] = _decode(paths[row], height, width, channels, option, bits)

    starts = range(0, len(paths), _CHUNK)
    with ThreadPoolExecutor() as pool:
        # `map` gives results in order and cancels what has not begun once one fails.
        for start, _ in zip(starts, pool.map(decode_chunk, starts), strict=True):
            progress(min(start + _CHUNK, len(paths)), len(paths))
    return images


def decode_cached(
    folder: Path,
    paths: Sequence[Path],
    size: int | tuple[int, int],
    channels: int,
    *,
    text: str,
    option: str,
    bits: int = 16,
) -> NDArray[np.uint8]:
    """Like :func:`decode_images`, but read from ``folder/.decoded-DIGEST.npy`` where an earlier call left it.

    The digest covers each file's relative path, length and time of change. A folder that cannot be written to is no error:
    the images are then decoded into memory, each time. A sanitized set may hold nothing that its manifest does not name: there
    the file lies beside the folder.

    Args:
        folder: A folder above all ``paths``.
        text: What is being done, for the progress bar.

    Returns:
        ``(N, channels, height, width)`` uint8; if mapped, copied only where written to.
    """
    shape = (len(paths), channels, *(size if isinstance(size, tuple) else (size, size)))
    name = f".decoded-{_fingerprint(folder, paths, (*shape, bits), option)}.npy"
    sealed = (folder / MANIFEST).exists() and (folder / ROWS).exists()
    cache = folder.absolute().with_name(f".{folder.absolute().name}{name}") if sealed else folder / name
    found = _read(cache, shape)
    if found is not None:
        return found
    partial = partial_path(cache)
    try:
        images = _create(partial, shape)
        mapped = isinstance(images, np.memmap)
        note = "" if mapped else f"(not kept: {folder} cannot be written to)"
        with StoreProgress(text, enabled=is_first_rank()) as bar:
            decode_images(
                paths, size, channels, option=option, bits=bits, out=images, progress=lambda done, total: bar(done, total, note)
            )
        if not mapped:
            return images
        images.flush()  # type: ignore[attr-defined]
        try:
            os.replace(partial, cache)
        except OSError:
            # A folder stands in its place. What was written can still be read, although it has lost its name.
            return images
        return np.load(cache, mmap_mode="c", allow_pickle=False)
    finally:
        # A read-only file system refuses even to remove what is not there.
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _fingerprint(folder: Path, paths: Sequence[Path], shape: tuple[int, ...], option: str) -> str:
    files = []
    for path in paths:
        try:
            found = path.stat()
        except OSError as error:
            raise InputError(f"cannot read the image {plain(path)}: {error.strerror} ({option})") from error
        files.append([path.relative_to(folder).as_posix(), found.st_size, found.st_mtime_ns])
    # Another Pillow may bring another JPEG decoder, whose rounding differs.
    return digest([_VERSION, PIL.__version__, shape, files])


def _read(cache: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    # An unusable file is as good as none.
    try:
        return read_array(cache, "no cache", "--data", dtype=np.uint8, shape=shape)
    except InputError:
        return None


def _create(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        return create_mapped(path, shape)
    except OSError:
        return np.empty(shape, np.uint8)


def _decode(path: Path, height: int, width: int, channels: int, option: str, bits: int) -> NDArray[np.uint8]:
    try:
        picture, _ = open_image(read_regular(path, MAX_FILE_BYTES), channels, bits=bits)
    except OSError as error:
        raise InputError(f"cannot read the image {path}: {error.strerror} ({option})") from error
    except UnreadableImageError as error:
        raise InputError(f"cannot read the image {path}: {error} ({option})") from error
    return to_array(fit_shape(picture, height, width))
