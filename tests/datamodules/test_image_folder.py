import errno
import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import ImageFolderDataModule
from poison_and_defend.images.pictures import MAX_PIXELS


def pixels(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folders(tmp_path):
    """Two classes; three training and two test images each, losslessly stored."""
    for split, count in (("train", 3), ("test", 2)):
        for number, name in enumerate(("zebra", "ant")):
            (tmp_path / split / name).mkdir(parents=True)
            for row in range(count):
                image = Image.fromarray(pixels(8, 8, seed=100 * number + 10 * row + len(split)))
                image.save(tmp_path / split / name / f"{row}.png")
    return tmp_path


def module(root, **options):
    return ImageFolderDataModule("train", "test", root=str(root), **({"size": 8} | options))


def test_rows_are_in_the_order_of_class_then_path(folders):
    data = module(folders)
    assert data.classes == ["ant", "zebra"] and data.num_classes == 2 and data.name == folders.name
    split = data.split("train")
    assert split.labels.tolist() == [0, 0, 0, 1, 1, 1]
    expected = [np.asarray(Image.open(folders / "train" / c / f"{i}.png")) for c in ("ant", "zebra") for i in range(3)]
    assert np.array_equal(split.images.numpy(), np.stack(expected).transpose(0, 3, 1, 2))
    assert len(data.split("test")) == 4
    with pytest.raises(InputError, match=r"--data\.public"):
        data.split("public")
    assert len(module(folders, public="test").split("public")) == 4


def test_one_channel_is_grey(folders):
    data = module(folders, channels=1, mean=[0.3], std=[0.2])
    image = data.split("train").images[0]
    assert image.shape == data.image_shape == (1, 8, 8) and data.mean == (0.3,)
    assert np.array_equal(image[0].numpy(), np.asarray(Image.open(folders / "train" / "ant" / "0.png").convert("L")))


def _bomb(side):
    """A valid header of a PNG that claims `side` squared pixels, in a hundred bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_unusable_files_are_refused_by_name(folders):
    stream = io.BytesIO()
    Image.fromarray(pixels(64, 64)).save(stream, "JPEG")
    whole = stream.getvalue()
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "TGA")
    bad = folders / "train" / "zebra" / "7.jpg"
    for content, message in {
        whole[: len(whole) // 2]: "truncated",
        whole[:20]: "7.jpg",
        b"": "no JPEG, PNG, WebP, BMP",
        b"<html>404</html>": "no JPEG, PNG, WebP, BMP",
        stream.getvalue(): "no JPEG, PNG, WebP, BMP",
        _bomb(int(MAX_PIXELS**0.5) + 1): f"more than {MAX_PIXELS}",
        _bomb(10_000): f"more than {MAX_PIXELS}",
        _bomb(30_000): "decompression bomb",
    }.items():
        bad.write_bytes(content)
        with pytest.raises(InputError, match=message) as caught:
            module(folders).split("train")
        assert str(bad) in str(caught.value) and "--data.train" in str(caught.value)
        assert not list((folders / "train").glob(".decoded*"))  # Nor is anything half-made kept.
    bad.unlink()
    bad.symlink_to("gone.jpg")
    with pytest.raises(InputError, match=r"cannot read the image .*7\.jpg: No such file"):
        module(folders).split("train")


def test_options_and_folders_are_checked(folders):
    for options, message in [
        ({"size": 0}, r"size is 0.*--data\.size"),
        ({"channels": 4}, r"channels is 4.*--data\.channels"),
        ({"mean": [0.5]}, r"mean is \[0.5\].*--data\.mean"),
        ({"std": [0.5, 0.5, 0.0]}, r"--data\.std"),
        ({"public": "elsewhere"}, r"cannot read the folder .*elsewhere: No such file.*--data\.public"),
        ({"public": "train/ant"}, r"has no sub-folders.*--data\.public"),
    ]:
        with pytest.raises(InputError, match=message):
            module(folders, **options)
    (folders / "test" / "ant").rename(folders / "test" / "bee")
    with pytest.raises(
        InputError, match=r"test does not have the classes of .*train: it lacks ant and also has bee \(--data.test"
    ):
        module(folders)
    (folders / "test" / "bee").rename(folders / "test" / "ant")
    for path in (folders / "test" / "ant").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"ant holds no JPEG, PNG, WebP, BMP, TIFF, GIF and PNM images \(--data\.test"):
        module(folders).split("test")


def test_what_was_decoded_is_read_back_until_a_file_changes(folders, monkeypatch):
    path = folders / "train" / "ant" / "0.png"
    Image.fromarray(pixels(8, 8)).save(path, compress_level=0)
    before = path.stat()
    first = module(folders).split("train").images.clone()  # A copy, since below the file is damaged that it is a view of.
    (cache,) = (folders / "train").glob(".decoded*")
    with monkeypatch.context() as patch:
        patch.setattr("poison_and_defend.images.decode._decode", None)  # Calling it would fail.
        again = module(folders).split("train").images
        assert torch.equal(again, first)
        again[0] = 0  # Copied on write: neither an error nor a change of the file.
        assert torch.equal(module(folders).split("train").images, first)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        with pytest.raises(TypeError):
            module(folders).split("train")
    # Other pixels in as many bytes, as a poison would be: only the time of change tells.
    Image.fromarray(255 - pixels(8, 8)).save(path, compress_level=0)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 2))
    assert path.stat().st_size == before.st_size
    changed = module(folders).split("train").images
    assert torch.equal(changed[0], 255 - first[0]) and torch.equal(changed[1:], first[1:])
    # Another size is another file, and so is one file fewer.
    assert module(folders, size=4).split("train").images.shape == (6, 3, 4, 4)
    (folders / "train" / "zebra" / "1.png").unlink()
    assert torch.equal(module(folders).split("train").images[4], first[5])
    assert len(list((folders / "train").glob(".decoded*"))) == 4 and cache.exists()


@pytest.mark.parametrize("damage", ["short", "empty", "shape", "dtype"])
def test_a_damaged_cache_is_made_again(folders, damage):
    first = module(folders).split("train").images.clone()
    (cache,) = (folders / "train").glob(".decoded*")
    if damage in ("short", "empty"):
        cache.write_bytes(cache.read_bytes()[: 150 if damage == "short" else 0])
    else:
        np.save(cache, np.zeros((5, 3, 8, 8), np.uint8) if damage == "shape" else np.zeros((6, 3, 8, 8)))
    for _ in range(2):
        assert torch.equal(module(folders).split("train").images, first)
    assert list((folders / "train").glob(".*")) == [cache]


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_to_is_read_all_the_same(folders, monkeypatch, capfd, code):
    # The system's refusal is imitated, since tests may run as root, whom permissions do not stop.
    def refuse(*arguments, **options):
        raise OSError(code, os.strerror(code))

    if code == errno.ENOSPC:
        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    else:
        monkeypatch.setattr(np.lib.format, "open_memmap", refuse)
    split = module(folders).split("train")
    assert np.array_equal(split.images[0].permute(1, 2, 0).numpy(), pixels(8, 8, seed=105))
    assert not list((folders / "train").glob(".decoded*"))
    assert "cannot be written to" in capfd.readouterr().err


def test_one_option_finds_the_folders_of_both_splits(folders):
    found = ImageFolderDataModule(root=str(folders), size=8)
    assert found.name == folders.name and found.folders == {"train": folders / "train", "test": folders / "test"}
    assert torch.equal(found.split("train").images, module(folders).split("train").images)
    for name in ("val", "valid", "validation"):
        (folders / "test").rename(folders / name)
        found = ImageFolderDataModule(root=str(folders), size=8)
        assert found.folders["test"] == folders / name and len(found.split("test")) == 4
        (folders / name).rename(folders / "test")


def test_a_folder_that_is_named_wins(folders):
    (folders / "test").rename(folders / "val")
    assert ImageFolderDataModule(test="train", root=str(folders)).folders["test"] == folders / "train"
    (folders / "val").rename(folders / "elsewhere")
    (folders / "train").rename(folders / "test")
    found = ImageFolderDataModule(train="elsewhere", root=str(folders), size=8)
    assert (len(found.split("train")), len(found.split("test"))) == (4, 6)


def test_what_was_looked_for_is_said(folders, monkeypatch):
    (folders / "test").rename(folders / "tests")
    wanted = r"has no folder test, val, valid or validation: name the test split's.*\(--data\.test, --data\.root\)"
    with pytest.raises(InputError, match=f"^{folders} {wanted}"):
        ImageFolderDataModule(root=str(folders))
    monkeypatch.chdir(folders / "train")
    with pytest.raises(InputError, match=r"^\., the working folder, has no folder train: .*\(--data\.train, --data\.root\)"):
        ImageFolderDataModule()
    monkeypatch.setenv("POISON_DATA_ROOT", str(folders / "train"))
    with pytest.raises(InputError, match=r"train, which POISON_DATA_ROOT names, has no folder train"):
        ImageFolderDataModule()


def test_a_height_and_a_width_crop_to_their_ratio_first(folders):
    whole = np.asarray(Image.open(folders / "train" / "ant" / "0.png"))
    data = module(folders, size=[8, 6])
    assert data.image_shape == (3, 8, 6) and data.split("train").images.shape == (6, 3, 8, 6)
    # Of 8 x 8, the central six columns keep their pixels.
    assert np.array_equal(data.split("train").images[0].numpy(), whole[:, 1:7].transpose(2, 0, 1))
    assert np.array_equal(module(folders, size=[4, 8]).split("train").images[0].numpy(), whole[2:6].transpose(2, 0, 1))
    # What was decoded to another shape is not read back.
    assert np.array_equal(module(folders, size=[8, 6]).split("train").images[0].numpy(), whole[:, 1:7].transpose(2, 0, 1))


def test_a_ratio_is_kept_where_an_image_is_scaled(folders):
    inner = Image.fromarray(pixels(32, 24))
    wide = Image.new("RGB", (60, 32), "white")
    wide.paste(inner, (18, 0))
    wide.save(folders / "train" / "ant" / "0.png")
    image = module(folders, size=[8, 6]).split("train").images[0].permute(1, 2, 0).numpy()
    # At the edge the filter also sees what lies beside what is cut out.
    assert np.array_equal(image[:, 1:-1], np.asarray(inner.resize((6, 8), Image.Resampling.BILINEAR))[:, 1:-1])


@pytest.mark.parametrize("size", [[8], [8, 8, 8], [8, 0], []])
def test_a_size_of_other_than_two_sides_is_refused(folders, size):
    with pytest.raises(InputError, match=r"size is \[.*: it is one number, or a height and a width.*\(--data\.size\)"):
        module(folders, size=size)
