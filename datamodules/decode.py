"""Folders of image files as one array: decoded once by threads, kept beside the files, memory-mapped from then on."""

import contextlib
import mimetypes
import os
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from datamodules.progress import StoreProgress
from errors import InputError
from files import digest

MAX_PIXELS = 1 << 26
"""Of one file, before it is scaled down: 200 MB a thread. A few kilobytes of PNG can claim far more."""

_FORMATS = ("JPEG", "PNG", "WEBP")
_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp"}
_CHUNK = 64
_VERSION = 1  # Raised when decoding changes, so that no older cache is read.


def check_size(size: int) -> None:
    """Refuse a side that no image has.

    Raises:
        InputError: If ``size`` is below 1.
    """
    if size < 1:
        raise InputError(f"size is {size}: an image needs at least 1 pixel a side (--data.size)")


def list_folders(folder: Path, option: str) -> list[str]:
    """Sorted names of the sub-folders that are not hidden, of which there must be one.

    Raises:
        InputError: If there is none, or the folder cannot be read.
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror} ({option})") from error
    if not names:
        raise InputError(f"{folder} has no sub-folders: each class needs one ({option})")
    return names


def list_images(folder: Path, option: str) -> list[Path]:
    """Image files under a folder in lexicographic order of their paths; hidden files and what is no image are left out.

    Raises:
        InputError: If there is none, one is of another format, or the folder cannot be read.
    """
    found: list[Path] = []
    try:
        for path in folder.rglob("*"):
            if any(part.startswith(".") for part in path.relative_to(folder).parts) or path.is_dir():
                continue
            if path.suffix.lower() in _SUFFIXES:
                found.append(path)
            # Labels and notes may lie beside images; an image that is passed over would be missing without a word.
            elif (mimetypes.guess_type(path.name)[0] or "").startswith("image/"):
                raise InputError(f"{path} is not a JPEG, PNG or WebP file: convert or remove it ({option})")
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror} ({option})") from error
    if not found:
        raise InputError(f"{folder} holds no JPEG, PNG or WebP images ({option})")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def decode_images(
    paths: Sequence[Path],
    size: int,
    channels: int,
    *,
    option: str,
    out: NDArray[np.uint8] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.uint8]:
    """Decode image files: turned as EXIF says, the central square, scaled to ``size``, transparency over white.

    Threads suffice, since Pillow decodes without the interpreter's lock. The bytes do not depend on their number.

    Args:
        paths: JPEG, PNG or WebP files of any size and mode.
        size: Height and width of the result. An image whose shorter side is that long already keeps its pixels.
        channels: 3 for RGB, 1 for grey.
        option: What the user should change if a file is unusable.
        out: Where to put them, ``(N, channels, size, size)``.
        progress: Called with the number of images done and of all.

    Returns:
        ``(N, channels, size, size)`` uint8, in the order of ``paths``.

    Raises:
        InputError: For the first file that cannot be decoded.
    """
    images = np.empty((len(paths), channels, size, size), np.uint8) if out is None else out

    def decode_chunk(start: int) -> None:
        for row in range(start, min(start + _CHUNK, len(paths))):
            images[row] = _decode(paths[row], size, channels, option)

    starts = range(0, len(paths), _CHUNK)
    with ThreadPoolExecutor() as pool:
        # `map` gives results in order and cancels what has not begun once one fails.
        for start, _ in zip(starts, pool.map(decode_chunk, starts), strict=True):
            progress(min(start + _CHUNK, len(paths)), len(paths))
    return images


def decode_cached(
    folder: Path, paths: Sequence[Path], size: int, channels: int, *, text: str, option: str
) -> NDArray[np.uint8]:
    """Like :func:`decode_images`, but read from ``folder/.decoded-DIGEST.npy`` where an earlier call left it.

    The digest covers each file's relative path, length and time of change. A folder that cannot be written to is no error:
    the images are then decoded into memory, each time.

    Args:
        folder: A folder above all ``paths``.
        text: What is being done, for the progress bar.

    Returns:
        ``(N, channels, size, size)`` uint8; if mapped, copied only where written to.
    """
    shape = (len(paths), channels, size, size)
    cache = folder / f".decoded-{_fingerprint(folder, paths, shape, option)}.npy"
    found = _read(cache, shape)
    if found is not None:
        return found
    partial = cache.with_name(f"{cache.name}.{secrets.token_hex(4)}.partial")
    try:
        images = _create(partial, shape)
        mapped = isinstance(images, np.memmap)
        note = "" if mapped else f"(not kept: {folder} cannot be written to)"
        # Lightning and Fabric set this number before anything is read; where neither runs there is one process.
        with StoreProgress(text, enabled=getattr(rank_zero_only, "rank", 0) in (0, None)) as bar:
            decode_images(paths, size, channels, option=option, out=images, progress=lambda done, total: bar(done, total, note))
        if not mapped:
            return images
        images.flush()  # type: ignore[attr-defined]
        os.replace(partial, cache)
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
            raise InputError(f"cannot read the image {path}: {error.strerror} ({option})") from error
        files.append([path.relative_to(folder).as_posix(), found.st_size, found.st_mtime_ns])
    # Another Pillow may bring another JPEG decoder, whose rounding differs.
    return digest([_VERSION, PIL.__version__, shape, files])


def _read(cache: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    # Mode "c" since torch warns of memory that cannot be written to. An unusable file is as good as none.
    try:
        images: NDArray[np.uint8] = np.load(cache, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _create(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        array: NDArray[np.uint8] = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        # Without this a full disk would not raise but kill the process, when a page of the map is written.
        if hasattr(os, "posix_fallocate"):
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError:
        return np.empty(shape, np.uint8)
    return array


def _decode(path: Path, size: int, channels: int, option: str) -> NDArray[np.uint8]:
    try:
        with Image.open(path, formats=_FORMATS) as file:
            # The header is all that was read so far.
            pixels = file.width * file.height
            if pixels <= MAX_PIXELS:
                image = _plain(ImageOps.exif_transpose(file), "RGB" if channels == 3 else "L")
    except UnidentifiedImageError as error:
        raise InputError(f"cannot read the image {path}: it is no JPEG, PNG or WebP file ({option})") from error
    # Damaged files make Pillow's decoders raise nearly anything: OSError, SyntaxError, struct.error, zlib.error ...
    except Exception as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise InputError(f"cannot read the image {path}: {reason} ({option})") from error
    if pixels > MAX_PIXELS:
        raise InputError(f"the image {path} has {pixels} pixels, more than {MAX_PIXELS}: scale it down ({option})")
    side = min(image.size)
    # Whole pixels, so that an image which only needs cropping is not shifted by half of one. Cropping comes first: a
    # strip of 1 by a million pixels, scaled by its shorter side, would be huge.
    left, top = (image.width - side) // 2, (image.height - side) // 2
    # Pillow's bilinear filter widens with the scale, so that nothing aliases.
    image = image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    pixel_rows = np.asarray(image, np.uint8).reshape(size, size, channels)
    return pixel_rows.transpose(2, 0, 1)


def _plain(image: Image.Image, mode: str) -> Image.Image:
    # 16-bit grey: Pillow's own conversion clips at 255 instead of scaling.
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    # What lies under transparent pixels is arbitrary and nobody has seen it: a viewer shows them on white.
    if image.has_transparency_data:
        background = Image.new("RGBA", image.size, "white")
        background.alpha_composite(image.convert("RGBA"))
        image = background
    return image.convert(mode)
