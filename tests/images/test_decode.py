import numpy as np
import pytest
from PIL import Image

from poison_and_defend.core.errors import InputError
from poison_and_defend.images.decode import decode_images
from poison_and_defend.images.listing import Rules, list_images


def pixels(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def decode(path, size, channels=3):
    """One file as (H, W, C)."""
    return decode_images([path], size, channels, option="--data.train")[0].transpose(1, 2, 0)


def test_paths_sort_as_text_and_hidden_files_and_notes_are_left_out(tmp_path):
    for name in ("10.png", "2.PNG", "1.jpeg", "sub/0.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / ".hidden").mkdir()
    for name in ("._1.jpeg", ".hidden/3.png", "labels.txt", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"no image")
    names = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path, Rules("--data.train"))]
    assert names == ["1.jpeg", "10.png", "2.PNG", "sub/0.webp"]
    (tmp_path / "4.tga").write_bytes(b"")
    with pytest.raises(InputError, match=r"4\.tga is of a format that is not read"):
        list_images(tmp_path, Rules("--data.train"))


def test_many_files_stay_in_order_and_are_counted(tmp_path):
    paths = []
    for row in range(150):  # More than two chunks.
        paths.append(tmp_path / f"{row}.png")
        Image.fromarray(pixels(6, 6, seed=row)).save(paths[-1])
    calls = []
    images = decode_images(paths, 6, 3, option="", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(64, 150), (128, 150), (150, 150)]
    assert np.array_equal(images, np.stack([pixels(6, 6, seed=row) for row in range(150)]).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("shape", [(8, 8), (8, 13), (17, 8), (9, 8)])
def test_an_image_whose_shorter_side_fits_is_only_cropped(tmp_path, shape):
    image = pixels(*shape)
    Image.fromarray(image).save(tmp_path / "a.png")
    top, left = (shape[0] - 8) // 2, (shape[1] - 8) // 2
    assert np.array_equal(decode(tmp_path / "a.png", 8), image[top : top + 8, left : left + 8])


@pytest.mark.parametrize("shape", [(32, 32), (32, 48), (90, 32), (3, 4), (1, 5000)])
def test_mixed_sizes_become_one_without_aliasing(tmp_path, shape):
    # A checkerboard averages to grey; a filter that does not widen would keep some of its black and white.
    image = (np.indices(shape).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    found = decode(tmp_path / "a.png", 8, channels=1)
    assert found.shape == (8, 8, 1)
    if min(shape) == 32:
        assert np.abs(found.astype(int) - 127.5).max() < 20


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_before_cropping(tmp_path, orientation):
    image = Image.fromarray(pixels(9, 8))
    # What a viewer does with each orientation (the EXIF standard's table), to a file that is wide or tall.
    steps = {
        1: [], 2: ["FLIP_LEFT_RIGHT"], 3: ["ROTATE_180"], 4: ["FLIP_TOP_BOTTOM"], 5: ["FLIP_LEFT_RIGHT", "ROTATE_90"],
        6: ["ROTATE_270"], 7: ["FLIP_LEFT_RIGHT", "ROTATE_270"], 8: ["ROTATE_90"],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    upright = image
    for step in steps:
        upright = upright.transpose(Image.Transpose[step])
    left, top = (upright.width - 8) // 2, (upright.height - 8) // 2
    assert np.array_equal(decode(tmp_path / "a.png", 8), np.asarray(upright)[top : top + 8, left : left + 8])


def test_every_mode_becomes_rgb_with_transparency_over_white(tmp_path):
    grey, red, white = (90, 90, 90), (255, 0, 0), (255, 255, 255)
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 255, 0, *red])
    palette.putpixel((0, 0), 0)
    palette.save(tmp_path / "palette.png")
    palette.save(tmp_path / "transparent_palette.png", transparency=0)
    Image.new("L", (4, 4), 90).save(tmp_path / "grey.png")
    Image.new("L", (4, 4), 90).save(tmp_path / "transparent_grey.png", transparency=90)
    Image.new("LA", (4, 4), (90, 0)).save(tmp_path / "grey_alpha.png")
    Image.new("RGBA", (4, 4), (*red, 255)).save(tmp_path / "opaque.png")
    Image.new("RGBA", (4, 4), (*red, 0)).save(tmp_path / "invisible.png")
    Image.new("RGBA", (4, 4), (*red, 0)).save(tmp_path / "invisible.webp", lossless=True, exact=True)
    Image.new("RGB", (4, 4), red).save(tmp_path / "transparent_rgb.png", transparency=red)
    Image.new("1", (4, 4), 1).save(tmp_path / "bits.png")
    Image.new("1", (4, 4), 0).save(tmp_path / "transparent_bits.png", transparency=0)
    Image.fromarray(np.full((4, 4), 90 * 256 + 17, np.uint16)).save(tmp_path / "sixteen_bits.png")
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=100)
    Image.new("RGBA", (4, 4), (*red, 128)).save(tmp_path / "half.png")
    expected = {
        "palette.png": red, "grey.png": grey, "transparent_grey.png": white, "grey_alpha.png": white, "opaque.png": red,
        "invisible.png": white, "invisible.webp": white, "transparent_rgb.png": white, "bits.png": white,
        "transparent_bits.png": white, "sixteen_bits.png": grey, "print.jpg": red, "half.png": (255, 127, 127),
        "transparent_palette.png": red,
    }  # fmt: skip
    for name, colour in expected.items():
        found = decode(tmp_path / name, 4)
        assert np.abs(found[3, 3].astype(int) - colour).max() <= 2, name
    assert decode(tmp_path / "palette.png", 4)[0, 0].tolist() == [0, 255, 0]
    assert decode(tmp_path / "transparent_palette.png", 4)[0, 0].tolist() == [255, 255, 255]


def test_a_camera_file_of_several_pictures_gives_the_first(tmp_path):
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second], lossless=True)
    for path in (tmp_path / "a.jpg", tmp_path / "a.webp"):
        red, _, blue = decode(path, 8)[0, 0]
        assert red > 240 and blue < 15
