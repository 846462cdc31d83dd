import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from poison_and_defend.core.errors import InputError
from poison_and_defend.images.pictures import UnreadableImageError, check_bits, open_image
from tests.picture_folders import photo


def encoded(picture: Image.Image, form: str, **options) -> bytes:
    with io.BytesIO() as buffer:
        picture.save(buffer, form, **options)
        return buffer.getvalue()


def grey16(values) -> Image.Image:
    return Image.fromarray(np.asarray(values, np.uint16))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_the_pixels_back(form: str) -> None:
    picture = photo(3, 20, 12)
    found, note = open_image(encoded(picture, form, **({"lossless": True} if form == "WEBP" else {})), 3)
    assert np.array_equal(np.asarray(found), np.asarray(picture)) and note == ""


def test_of_a_gif_and_of_a_tiff_the_first_frame_is_taken_and_that_is_said() -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "lime", "blue")]
    for form in ("GIF", "TIFF", "WEBP", "PNG"):
        options = {"lossless": True} if form == "WEBP" else {}
        found, note = open_image(encoded(frames[0], form, save_all=True, append_images=frames[1:], **options), 3)
        assert set(found.getdata()) == {(255, 0, 0)} and note == "animation", form
        assert open_image(encoded(frames[0], form, **options), 3)[1] == ""


def deep_colour_png() -> bytes:
    """A PNG file of 16 bits a channel, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + np.array([[4096 * c + 256 * x for c in range(3)] for x in range(5)], ">u2").tobytes()
    header = struct.pack(">IIBBBBB", 5, 2, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 2)) + chunk(b"IEND", b"")


def test_sixteen_bits_are_said_of_colours_too() -> None:
    found, note = open_image(deep_colour_png(), 3)
    assert note == "16 bits"
    assert np.asarray(found)[0, 4].tolist() == [4, 20, 36]
    header = b"P6\n2 1\n65535\n"
    assert open_image(header + np.array([0, 65535, 256 * 7] * 2, ">u2").tobytes(), 3)[1] == "16 bits"


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_grey_values_of_fewer_bits_are_seen_and_can_be_scaled(form: str) -> None:
    values = np.array([[0, 16, 1000, 4095]])
    content = encoded(grey16(values), form)
    dark, note = open_image(content, 1)
    assert np.asarray(dark).tolist() == [[0, 0, 3, 15]] and note == "16 bits up to 4095"
    bright, note = open_image(content, 1, bits=12)
    assert np.asarray(bright).tolist() == [[0, 1, 62, 255]] and note == "16 bits"
    clipped, note = open_image(content, 1, bits=10)
    assert np.asarray(clipped).tolist() == [[0, 4, 250, 255]] and note == "16 bits clipped at 1023"
    assert open_image(encoded(grey16([[0, 65535]]), form), 3)[1] == "16 bits"
    assert np.asarray(open_image(encoded(grey16([[0, 65535]]), form), 3)[0]).tolist() == [[[0] * 3, [255] * 3]]


def test_values_that_no_16_bits_hold_are_refused() -> None:
    for picture in (Image.fromarray(np.array([[70000]], np.int32)), Image.fromarray(np.array([[-1]], np.int32))):
        with pytest.raises(UnreadableImageError, match="convert it to 16 bits"):
            open_image(encoded(picture, "TIFF"), 1)
    with pytest.raises(UnreadableImageError, match="floating point"):
        open_image(encoded(Image.fromarray(np.array([[0.5]], np.float32)), "TIFF"), 1)
    for bits in (7, 17):
        with pytest.raises(InputError, match=rf"bits is {bits}: .* uses 8 to 16 .*--data.bits"):
            check_bits(bits, "--data.bits")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_long_text_beside_the_pixels_is_no_reason_to_skip_a_png(compressed: bool) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("notes", "x" * 3_000_000, zip=compressed)
    picture = photo(1)
    found, note = open_image(encoded(picture, "PNG", pnginfo=text), 3)
    assert np.array_equal(np.asarray(found), np.asarray(picture)) and note == ""


@pytest.mark.parametrize("form", ["GIF", "TIFF", "BMP", "PPM"])
def test_files_that_are_cut_off_are_unreadable_and_nothing_else(form: str) -> None:
    content = encoded(photo(2), form)
    for length in range(0, len(content) - 1, max(1, len(content) // 40)):
        try:
            open_image(content[:length], 3)
        except UnreadableImageError:
            continue
        assert length > len(content) // 2, "half of a file is no picture"
