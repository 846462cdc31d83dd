import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from poison_and_defend import DiffusionSanitizer
from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.storage.records import read_records
from poison_and_defend.storage.targets.base import read_manifest
from tests.picture_folders import check, photo, tree, write_every_kind, write_photos


def test_layout_names_and_order_are_kept_and_every_kind_of_file_is_understood(sanitize, tmp_path, capsys) -> None:
    root = write_every_kind(tmp_path / "in")
    out = sanitize(root)
    assert sorted(tree(out)) == [
        "birds/larger.png", "birds/plain.png", "birds/small/tiny.png", "manifest.json", "rows.csv", "trees/clear.png",
        "trees/deep.png", "trees/grey.png", "trees/palette.png", "trees/press.png", "trees/turned.png",
    ]  # fmt: skip
    sizes = {name: Image.open(out / name).size for name in ("birds/larger.png", "birds/small/tiny.png", "trees/turned.png")}
    assert sizes == {"birds/larger.png": (40, 23), "birds/small/tiny.png": (9, 5), "trees/turned.png": (18, 30)}
    assert {Image.open(path).mode for path in out.rglob("*.png")} == {"RGB"}
    notes = {record.file: record.note for record in read_records(out / "rows.csv") if record.note}
    assert notes == {"trees/clear.png": "transparency", "trees/deep.png": "16 bits", "trees/press.jpg": "CMYK"}
    assert [label for _, label in ImageFolder(out).samples] == [0] * 3 + [1] * 6
    check(out, source=root)
    printed = capsys.readouterr().out
    assert "9 images: about" in printed and "9 of 9 images are sanitized" in printed


def test_pixels_are_those_of_the_transform(sanitize, colour_denoiser_folder, tmp_path) -> None:
    root = write_every_kind(tmp_path / "in")
    out = sanitize(root, noise_seed=3, draw=2)
    model = DiffusionSanitizer(colour_denoiser_folder, 0.1, seed=3, draw=2, device="cpu")
    for record in read_records(out / "rows.csv"):
        if record.file.endswith(("larger.webp", "tiny.png")):
            expected = model(Image.open(root / record.file).convert("RGB"), rows=record.row)
            assert np.array_equal(np.asarray(Image.open(out / record.output)), np.asarray(expected))


def test_jpeg_files_of_one_name_and_another_suffix_do_not_overwrite_each_other(sanitize, tmp_path) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    for number, name in enumerate(("x.jpg", "x.png", "y.jpg")):
        photo(number).save(tmp_path / "in" / "a" / name)
    assert sorted(path.name for path in (sanitize(tmp_path / "in") / "a").iterdir()) == ["x.jpg.png", "x.png.png", "y.jpg.png"]


def test_flat_folders_webp_and_resizing(sanitize, tmp_path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    for number in range(3):
        photo(number, 40, 24).save(root / f"{number}.jpg")
    out = sanitize(root, large="resize", format="webp")
    found = [Image.open(out / f"{number}.webp") for number in range(3)]
    assert {(image.format, image.size) for image in found} == {("WEBP", (16, 16))}


def test_a_folder_becomes_arrays_with_its_labels(sanitize, tmp_path) -> None:
    root = write_photos(tmp_path / "in", 12, classes=3)
    (root / "class1" / "0001.png").write_bytes(b"broken")
    out = sanitize(root, tmp_path / "out.npz")
    arrays = np.load(out)
    assert arrays["images"].shape == (11, 3, 16, 16) and arrays["labels"].tolist() == [0] * 4 + [1] * 3 + [2] * 4
    folder = sanitize(root, tmp_path / "folder")
    images = [np.asarray(Image.open(path)).transpose(2, 0, 1) for path in sorted(folder.rglob("*.png"))]
    assert np.array_equal(np.stack(images), arrays["images"])
    assert check(out, source=root)["skipped"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".folder.inputs.npy", ".out.npz.inputs.npy", "folder", "in", "out.npz",
    ]  # fmt: skip


def test_images_of_two_sizes_do_not_become_one_array(sanitize, tmp_path) -> None:
    root = write_photos(tmp_path / "in", 4)
    photo(1, 20, 16).save(root / "class0" / "0009.png")
    with pytest.raises(InputError, match=r"image 2 is 3 x 16 x 20 and the first 3 x 16 x 16.*--large resize"):
        sanitize(root, tmp_path / "out.npz")
    assert np.load(sanitize(root, tmp_path / "two.npz", large="resize"))["images"].shape == (5, 3, 16, 16)


@pytest.mark.parametrize("out", ["clean.npz", "clean"])
def test_arrays_and_data_sets_keep_labels_and_order(sanitize, denoiser_folder, tmp_path, out: str) -> None:
    source = DigitsDataModule()
    split = source.split("train")
    np.savez(tmp_path / "in.npz", images=split.images.numpy()[:40], labels=split.labels.numpy()[:40].astype(np.int16))
    place = sanitize(tmp_path / "in.npz", tmp_path / out, denoiser=denoiser_folder)
    whole = sanitize(None, tmp_path / "whole.npz", source=source, denoiser=denoiser_folder)
    arrays = np.load(whole)
    assert np.array_equal(arrays["labels"], split.labels.numpy())
    change = np.abs(arrays["images"].astype(int) - split.images.numpy().astype(int)).mean()
    assert 1 < change < 128
    if out == "clean":
        found = {int(path.stem): (int(path.parent.name), np.asarray(Image.open(path))) for path in place.rglob("*.png")}
        assert [found[row][0] for row in range(40)] == split.labels[:40].tolist()
        images = np.stack([found[row][1] for row in range(40)])[:, None]
    else:
        images = np.load(place)["images"]
        assert np.load(place)["labels"].dtype == np.int64
    assert np.array_equal(images, arrays["images"][:40])
    check(place)
    check(whole)


def test_what_cannot_be_read_is_listed_and_skipped_or_copied_or_stops(sanitize, tmp_path, capsys) -> None:
    root = write_photos(tmp_path / "in", 6)
    good = (root / "class0" / "0002.png").read_bytes()
    (root / "class0" / "0002.png").write_bytes(good[: len(good) // 2])
    bomb = Image.new("1", (15000, 15000))
    bomb.save(root / "class1" / "0003.png")
    (root / "class1" / "0005.png").unlink()
    (root / "class1" / "0005.png").symlink_to("nowhere.png")
    out = sanitize(root)
    manifest = read_manifest(out, "--out")
    assert [(entry["file"], entry["status"]) for entry in manifest["not_sanitized"]] == [
        ("class0/0002.png", "skipped"), ("class1/0003.png", "skipped"), ("class1/0005.png", "skipped"),
    ]  # fmt: skip
    assert "225000000 pixels" in manifest["not_sanitized"][1]["reason"]
    assert "skipped: class1/0003.png: Image size (225000000 pixels)" in capsys.readouterr().out
    assert sorted(tree(out)) == ["class0/0000.png", "class0/0004.png", "class1/0001.png", "manifest.json", "rows.csv"]
    copied = sanitize(root, tmp_path / "copied", unreadable="copy")
    assert (copied / "class0" / "0002.png").read_bytes() == (root / "class0" / "0002.png").read_bytes()
    assert check(copied)["copied"] == 2  # a link to nothing has nothing to copy
    with pytest.raises(InputError, match=r"the image class0/0002.png cannot be sanitized: .*--unreadable"):
        sanitize(root, tmp_path / "strict", unreadable="stop")
    # The run that stopped is continued by one that is content with less, and what it did is the same.
    assert tree(sanitize(root, tmp_path / "strict", unreadable="skip")) == tree(out)


def test_a_disk_that_is_gone_is_not_taken_for_unreadable_images(sanitize, tmp_path) -> None:
    root = write_photos(tmp_path / "in", 40)
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the images 0 to 39 can be read, first class0/0000.png"):
        sanitize(root)


def test_a_batch_of_unreadable_images_among_others_is_left_out(sanitize, tmp_path) -> None:
    root = write_photos(tmp_path / "in", 6)
    for name in ("class0/0000.png", "class0/0002.png"):
        (root / name).write_bytes(b"")
    out = sanitize(root, batch_size=2)
    assert check(out)["skipped"] == 2 and len(list(out.rglob("*.png"))) == 4


def test_a_complete_set_is_not_made_again_and_another_is_not_overwritten(sanitize, tmp_path, capsys) -> None:
    root = write_photos(tmp_path / "in", 6)
    out = sanitize(root)
    before = tree(out)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    sanitize(root)
    assert "nothing is done twice" in capsys.readouterr().out
    for change, text in (({"sigma": 0.2}, "sigma = 0.1, now it is 0.2"), ({"batch_size": 8}, "batch_size = 64, now it is 8")):
        with pytest.raises(InputError, match=f"made with {text}.*--out"):
            sanitize(root, **change)
    photo(99).save(root / "class0" / "0099.png")
    with pytest.raises(InputError, match="made with files = "):
        sanitize(root)
    assert tree(out) == before and {path: path.stat().st_mtime_ns for path in out.rglob("*")} == stamps


def test_verify_finds_what_was_changed_removed_or_added(sanitize, tmp_path) -> None:
    root = write_photos(tmp_path / "in", 6)
    out = sanitize(root)
    check(out, source=root)
    photo(5).save(out / "class0" / "0002.png")
    (out / "class1" / "0001.png").unlink()
    with pytest.raises(InputError, match=r"class0/0002.png was changed, class1/0001.png is missing \(--verify\)"):
        check(out)
    shutil.copy(out / "class1" / "0003.png", out / "class1" / "0001.png")
    photo(1).save(out / "class1" / "extra.png")
    with pytest.raises(InputError, match=r"class1/0001.png was changed, class1/extra.png is one too many"):
        check(out)
    (root / "class0" / "0000.png").write_bytes(b"other")
    with pytest.raises(InputError, match=r"the input class0/0000.png was changed since"):
        check(out, source=root)
    text = (out / "rows.csv").read_text()
    (out / "rows.csv").write_text(text.replace("0002", "0007"))
    with pytest.raises(InputError, match=r"rows.csv, is not the one that was written"):
        check(out)
    with pytest.raises(InputError, match="there is no sanitized set"):
        check(tmp_path / "nowhere")


def test_verify_finds_a_changed_pixel_of_an_array(sanitize, denoiser_folder, tmp_path) -> None:
    out = sanitize(None, tmp_path / "a.npz", source=DigitsDataModule(), denoiser=denoiser_folder)
    content = bytearray(out.read_bytes())
    content[content.find(np.load(out)["images"][4].tobytes()) + 100] ^= 1
    out.write_bytes(content)
    with pytest.raises(InputError, match=r"is damaged: image 4 was changed, Bad CRC-32"):
        check(out)


@pytest.mark.parametrize("defense", ["noise_only", "jpeg", "denoise_only"])
def test_the_other_defences(sanitize, tmp_path, defense: str) -> None:
    root = write_photos(tmp_path / "in", 4)
    out = sanitize(root, defense=defense)
    change = [
        np.asarray(Image.open(out / path.relative_to(root))).astype(int) - np.asarray(Image.open(path))
        for path in sorted(root.rglob("*.png"))
    ]
    assert all(0 < np.abs(one).mean() < 130 for one in change)
    if defense == "noise_only":
        # Noise differs between rows.
        assert len({one.tobytes() for one in change}) == 4


def test_noise_is_keyed_by_row_and_repeats(sanitize, tmp_path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    for number in range(3):
        Image.new("RGB", (16, 16), (128, 128, 128)).save(root / f"{number}.png")
    one, two = tree(sanitize(root)), tree(sanitize(root, tmp_path / "again"))
    assert one == two
    assert len({one[f"{number}.png"] for number in range(3)}) == 3


def test_a_disk_without_room_is_refused_before_anything_is_done(sanitize, tmp_path, monkeypatch) -> None:
    root = write_photos(tmp_path / "in", 4)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(InputError, match=r"4 images need about 12 KB of disk, 1 KB are free at .*--out"):
        sanitize(root)


def test_an_image_whose_output_is_no_number_is_listed(sanitize, tmp_path, monkeypatch) -> None:
    from poison_and_defend.diffusion.batches import BatchedDenoiser

    original = BatchedDenoiser._evaluate

    def broken(self: BatchedDenoiser, batch: torch.Tensor) -> torch.Tensor:
        found = original(self, batch)
        # White images overflow.
        found[batch.mean(dim=(1, 2, 3)) > 0.95] = float("nan")
        return found

    monkeypatch.setattr(BatchedDenoiser, "_evaluate", broken)
    root = write_photos(tmp_path / "in", 4)
    Image.new("RGB", (16, 16), "white").save(root / "class0" / "0009.png")
    manifest = read_manifest(sanitize(root), "--out")
    assert manifest["sanitized"] == 4
    assert [(one["file"], one["reason"]) for one in manifest["not_sanitized"]] == [
        ("class0/0009.png", "the denoiser's output was not finite, twice")
    ]
