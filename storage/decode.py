"""Folders of image files as one array: decoded once by threads, kept beside the files, memory-mapped from then on."""

import contextlib
import os
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from errors import InputError
from files import digest
from storage.progress import StoreProgress

MAX_PIXELS = 1 << 26
"""Of one file, before it is scaled down: 200 MB a thread. A few kilobytes of PNG can claim far more."""

_FORMATS = ("JPEG", "PNG", "WEBP")
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "F")
_CHUNK = 64
_VERSION = 1  # Raised when decoding changes, so that no older cache is read.


def check_size(size: int) -> None:
    """Refuse a side that no image has.

    Raises:
        InputError: If ``size`` is below 1.
    """
    if size < 1:
        raise InputError(f"size is {size}: an image needs at least 1 pixel a side (--data.size)")


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
        # Not above, since whoever decodes without a cache need not wait for Lightning to be imported.
        from lightning.pytorch.utilities.rank_zero import rank_zero_only

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
        picture, _ = open_image(path, channels)
    except UnreadableImageError as error:
        raise InputError(f"cannot read the image {path}: {error} ({option})") from error
    return to_array(fit_square(picture, size))


class UnreadableImageError(Exception):
    """A file that cannot be made an image; the message says why, without the file's name."""


def open_image(file: Path | BinaryIO, channels: int) -> tuple[Image.Image, str]:
    """Decode one image: turned as EXIF says, transparency over white, 8 bits a channel, the first of several frames.

    Args:
        file: A path, or its contents.
        channels: 3 for RGB, 1 for grey.

    Returns:
        The picture in mode ``RGB`` or ``L``, and what of the file it does not show: ``16 bits``, ``transparency``,
        ``animation``, ``CMYK``, ``colour``, separated by spaces.

    Raises:
        UnreadableImageError: If it is damaged, no JPEG, PNG or WebP file, or has more than ``MAX_PIXELS`` pixels.
    """
    mode = "RGB" if channels == 3 else "L"
    try:
        with Image.open(file, formats=_FORMATS) as opened:
            # The header is all that was read so far.
            pixels = opened.width * opened.height
            if pixels <= MAX_PIXELS:
                lost = [
                    text
                    for text, so in (
                        ("16 bits", opened.mode.startswith("I")),
                        ("transparency", opened.has_transparency_data),
                        ("animation", getattr(opened, "n_frames", 1) > 1),
                        ("CMYK", opened.mode == "CMYK"),
                        ("colour", mode == "L" and opened.mode not in _GREY),
                    )
                    if so
                ]
                return _plain(ImageOps.exif_transpose(opened), mode), " ".join(lost)
    except UnidentifiedImageError as error:
        raise UnreadableImageError("it is no JPEG, PNG or WebP file") from error
    # Damaged files make Pillow's decoders raise nearly anything: OSError, SyntaxError, struct.error, zlib.error ...
    except Exception as error:
        raise UnreadableImageError(str((isinstance(error, OSError) and error.strerror) or error)) from error
    raise UnreadableImageError(f"it has {pixels} pixels, more than {MAX_PIXELS}: scale it down")


def fit_square(picture: Image.Image, size: int) -> Image.Image:
    """The central square, scaled to ``size``; a picture whose shorter side is that long already keeps its pixels."""
    side = min(picture.size)
    # Whole pixels, so that an image which only needs cropping is not shifted by half of one. Cropping comes first: a
    # strip of 1 by a million pixels, scaled by its shorter side, would be huge.
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    # Pillow's bilinear filter widens with the scale, so that nothing aliases.
    return picture.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))


def to_array(picture: Image.Image) -> NDArray[np.uint8]:
    """``(C, H, W)`` uint8 of a picture in mode ``RGB`` or ``L``; a view."""
    return np.asarray(picture, np.uint8).reshape(picture.height, picture.width, -1).transpose(2, 0, 1)


def to_picture(pixels: NDArray[np.uint8]) -> Image.Image:
    """Mode ``RGB`` or ``L`` of ``(C, H, W)`` uint8."""
    array = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


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
