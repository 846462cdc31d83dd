"""Image files of the kinds that people have, as 8-bit pictures, and what of a file these do not show."""

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from poison_and_defend.core.errors import InputError

MAX_PIXELS = 1 << 26
"""Of one file, before it is scaled down: 200 MB a thread. A few kilobytes of PNG can claim far more."""

MAX_FILE_BYTES = 1 << 30
"""Of one file: four bytes for each of the most pixels, and as much again twice over for whatever else is in it."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""Pillow's names of what is read."""

NAMES = "JPEG, PNG, WebP, BMP, TIFF, GIF and PNM"
"""The same for people."""

BITS = range(8, 17)
"""How many of the 16 bits of a grey value may be in use."""

_GREY = ("1", "L", "LA", "I", "I;16", "I;16B")
_PNG = b"\x89PNG\r\n\x1a\n"
# Text and colour profiles, which nobody looks at here; Pillow refuses a whole picture for a long one.
_SPARE_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")


class UnreadableImageError(Exception):
    """A file that cannot be made an image; the message says why, without the file's name."""


def check_bits(bits: int, option: str) -> None:
    """Refuse a depth that no 16-bit value has.

    Raises:
        InputError: If ``bits`` is not in :data:`BITS`.
    """
    if bits not in BITS:
        raise InputError(f"bits is {bits}: a 16-bit grey value uses {BITS.start} to {BITS.stop - 1} of them ({option})")


def open_image(content: bytes, channels: int, *, bits: int = 16) -> tuple[Image.Image, str]:
    """Decode one image: turned as EXIF says, transparency over white, 8 bits a channel, the first of several frames.

    Args:
        content: Of the file.
        channels: 3 for RGB, 1 for grey.
        bits: How many bits of a 16-bit grey value are in use, 8 to 16: 12 for a camera that writes 0 to 4,095. The upper 8
            of these are kept.

    Returns:
        The picture in mode ``RGB`` or ``L``, and what of the file it does not show: ``16 bits`` (with ``up to 4095`` where the
        values leave it nearly black, ``clipped at 4095`` where there are larger ones than ``bits`` allow), ``transparency``,
        ``animation``, ``CMYK``, ``colour``, separated by spaces.

    Raises:
        UnreadableImageError: If it is damaged, of no known format, has more than ``MAX_PIXELS`` pixels, or values that 16 bits
            do not hold.
    """
    try:
        return _open(content, channels, bits)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f"it is no {NAMES.replace('and', 'or')} file") from error
    # Damaged files make Pillow's decoders raise nearly anything: OSError, SyntaxError, struct.error, zlib.error ...
    except Exception as error:
        if content.startswith(_PNG) and "Decompressed data too large" in str(error):
            lean = _without_spare_chunks(content)
            if len(lean) < len(content):
                return open_image(lean, channels, bits=bits)
        raise UnreadableImageError(str((isinstance(error, OSError) and error.strerror) or error)) from error


def _open(content: bytes, channels: int, bits: int) -> tuple[Image.Image, str]:
    mode = "RGB" if channels == 3 else "L"
    with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
        # The header is all that was read so far.
        pixels = opened.width * opened.height
        if pixels > MAX_PIXELS:
            raise UnreadableImageError(f"it has {pixels} pixels, more than {MAX_PIXELS}: scale it down")
        if opened.mode == "F":
            raise UnreadableImageError("its pixels are floating point numbers: convert it to 8 or 16 bits")
        notes = [
            text
            for text, so in (
                ("16 bits", _is_deep(opened)),
                ("transparency", opened.has_transparency_data),
                # Not their number, which takes reading all frames.
                ("animation", getattr(opened, "is_animated", False)),
                ("CMYK", opened.mode == "CMYK"),
                ("colour", mode == "L" and opened.mode not in _GREY),
            )
            if so
        ]
        picture = ImageOps.exif_transpose(opened)
        if picture.mode.startswith("I"):
            picture, remark = _eight_bits(picture, bits)
            notes[:1] = [f"16 bits{remark}"]
        return plain_picture(picture, mode), " ".join(notes)


def _is_deep(opened: Image.Image) -> bool:
    """Whether 16 bits a channel become 8: Pillow says so of grey ones alone, and keeps it of others to its decoder."""
    if opened.mode.startswith("I"):
        return True
    # What its decoder is given, per piece of the file; Pillow's own name for it.
    pieces: Any = getattr(opened, "tile", [])
    arguments = pieces[0][3] if pieces else ()
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    most = arguments[1] if opened.format == "PPM" and isinstance(arguments, tuple) and len(arguments) > 1 else 0
    return (isinstance(first, str) and ";16" in first) or (isinstance(most, int) and most > 255)


def _eight_bits(image: Image.Image, bits: int) -> tuple[Image.Image, str]:
    # Pillow's own conversion clips at 255 instead of scaling.
    values = np.asarray(image).astype(np.int64)
    least, most = int(values.min()), int(values.max())
    if least < 0 or most > 65535:
        raise UnreadableImageError(f"its values reach from {least} to {most}: convert it to 16 bits, 0 to 65535")
    clipped = np.minimum(values >> (bits - 8), 255).astype(np.uint8)
    if most >= 1 << bits:
        return Image.fromarray(clipped), f" clipped at {(1 << bits) - 1}"
    # A quarter of what fits: an image so dark was hardly meant to use it all.
    return Image.fromarray(clipped), f" up to {most}" if most < 1 << (bits - 2) else ""


def _without_spare_chunks(content: bytes) -> bytes:
    """A PNG file without its text and colour profile."""
    parts, place = [content[: len(_PNG)]], len(_PNG)
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        if content[place + 4 : place + 8] not in _SPARE_CHUNKS:
            parts.append(content[place : place + 12 + length])
        place += 12 + length
    return b"".join(parts)


def fit_square(picture: Image.Image, size: int) -> Image.Image:
    """The central square, scaled to ``size``; a picture whose shorter side is that long already keeps its pixels."""
    return fit_shape(picture, size, size)


def fit_shape(picture: Image.Image, height: int, width: int) -> Image.Image:
    """The largest central part of this aspect ratio, scaled; one that has this shape already keeps its pixels."""
    # Whole pixels, so that an image which only needs cropping is not shifted by half of one. Cropping comes first: a
    # strip of 1 by a million pixels, scaled by its shorter side, would be huge.
    wide = max(1, min(picture.width, (2 * picture.height * width + height) // (2 * height)))
    high = max(1, min(picture.height, (2 * picture.width * height + width) // (2 * width)))
    left, top = (picture.width - wide) // 2, (picture.height - high) // 2
    # Pillow's bilinear filter widens with the scale, so that nothing aliases.
    return picture.resize((width, height), Image.Resampling.BILINEAR, box=(left, top, left + wide, top + high))


def to_array(picture: Image.Image) -> NDArray[np.uint8]:
    """``(C, H, W)`` uint8 of a picture in mode ``RGB`` or ``L``; a view."""
    return np.asarray(picture, np.uint8).reshape(picture.height, picture.width, -1).transpose(2, 0, 1)


def to_picture(pixels: NDArray[np.uint8]) -> Image.Image:
    """Mode ``RGB`` or ``L`` of ``(C, H, W)`` uint8."""
    array = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def plain_picture(image: Image.Image, mode: str) -> Image.Image:
    """In mode ``RGB`` or ``L``, transparency over white."""
    # What lies under transparent pixels is arbitrary and nobody has seen it: a viewer shows them on white.
    if image.has_transparency_data:
        background = Image.new("RGBA", image.size, "white")
        background.alpha_composite(image.convert("RGBA"))
        image = background
    return image.convert(mode)
