import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import DigitsDataModule
from tests.picture_folders import tree, write_photos


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda root: shutil.rmtree(root), "there is no folder"),
        (
            lambda root: [path.unlink() for path in root.rglob("*.png")],
            "holds no JPEG, PNG, WebP, BMP, TIFF, GIF and PNM images",
        ),
        (lambda root: (root / "class0" / "loop").symlink_to(root), "symbolic links lead from"),
        (lambda root: Path(os.fsdecode(bytes(root / "class0") + b"/\xff.png")).write_bytes(b""), "is not UTF-8"),
        (lambda root: (root / "class0" / "scan.tga").write_bytes(b""), "is of a format that is not read"),
    ],
)
def test_an_unusable_input_is_refused_and_nothing_is_left(sanitize, tmp_path, change, text: str) -> None:
    root = write_photos(tmp_path / "in", 4)
    change(root)
    with pytest.raises(InputError, match=rf"{text}.*\(--data\.root\)"):
        sanitize(root)
    assert not [path for path in (tmp_path / "out").glob("*") if "partial" not in path.name]


def test_an_unusable_output_is_refused_and_not_touched(sanitize, tmp_path) -> None:
    root = write_photos(tmp_path / "in", 4)
    for out, text in ((root / "out", "lies in the input"), (tmp_path, "lies in the output"), (root, "lies in the input")):
        with pytest.raises(InputError, match=rf"{text}.*\(--out\)"):
            sanitize(root, out)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match=r"not a sanitized set and not empty.*--out"):
        sanitize(root, foreign)
    assert tree(foreign) == {"holiday.jpg": b"x"}
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"/file/out, or what is above it, is a file.*--out"):
        sanitize(root, tmp_path / "file" / "out")
    (tmp_path / "other.npz").write_bytes(b"x")
    with pytest.raises(InputError, match="no sanitized set; choose another, or remove it"):
        sanitize(root, tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"large": "crop"}, "--large"),
        ({"batch_size": 0}, "--batch_size"),
        ({"overlap": 16}, r"overlap is 16: for tiles of 16 x 16 it is 0 to 15 \(--overlap\)"),
        ({"precision": "float16"}, "--precision"),
        ({"sigma": -1.0}, "--sigma"),
        ({"defense": "none"}, "--defense"),
        ({"defense": "jpeg", "large": "resize"}, "--large"),
        ({"out": "x.npz", "unreadable": "copy"}, r"an array has no place.*--unreadable skip"),
        ({"channels": 1}, "images of 1 channels do not go through a denoiser of 3"),
    ],
)
def test_settings_that_cannot_be_are_refused(sanitize, tmp_path, options, text: str) -> None:
    with pytest.raises(InputError, match=text):
        sanitize(write_photos(tmp_path / "in", 4), **options)
    assert not (tmp_path / "out").exists()


def test_colour_images_do_not_become_grey_without_a_word(sanitize, denoiser_folder, tmp_path) -> None:
    root = write_photos(tmp_path / "in", 4)
    with pytest.raises(InputError, match=r"colour image and the denoiser takes grey ones.*--data.channels 1"):
        sanitize(root, denoiser=denoiser_folder)
    out = sanitize(root, tmp_path / "grey", denoiser=denoiser_folder, channels=1)
    assert {Image.open(path).mode for path in out.rglob("*.png")} == {"L"}
    with pytest.raises(InputError, match="1 channels and the denoiser takes 3"):
        sanitize(None, source=DigitsDataModule())
