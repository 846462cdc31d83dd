"""Names, links, kinds of files and depths that folders of real images hold."""

import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from poison_and_defend.core.errors import InputError
from poison_and_defend.storage.records import read_records
from tests.picture_folders import check, photo, tree, write_every_kind, write_photos

STRANGE = ["a\rb.png", "a\nb.png", 'quo"te.png', "com,ma.png", "tab\t.png", " space.png", "\u2028.png", "é.png", "\x1b[31m.png"]


def test_any_name_that_a_file_can_have_comes_out_again(sanitize, tmp_path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    for number, name in enumerate(STRANGE):
        photo(number).save(root / name)
    out = sanitize(root)
    assert sorted(record.file for record in read_records(out / "rows.csv")) == sorted(STRANGE)
    assert sorted(path.name for path in out.glob("*.png")) == sorted(STRANGE)
    check(out, source=root)
    sanitize(root)


@pytest.mark.parametrize(
    ("name", "form", "text"),
    [
        ("x" * 248 + ".jpg", "png", None),
        ("x" * 251 + ".jpg", "png", None),
        ("x" * 251 + ".jpg", "webp", "more than 255 bytes: give the image a shorter one"),
        ("é" * 125 + ".jpeg", "png", None),
        ("manifest.json/a.png", "png", "a class is called manifest.json"),
        ("rows.csv/a.png", "png", "a class is called rows.csv"),
        ("Images.npy/a.png", "png", "a class is called Images.npy"),
        ("b.png/a.png", "png", "an image would be called b.png, as a folder of images is"),
    ],
)
def test_names_that_can_never_be_written_are_refused_at_once(
    sanitize, tmp_path, name: str, form: str, text, monkeypatch
) -> None:
    root = tmp_path / "in"
    path = root / name
    path.parent.mkdir(parents=True)
    photo(1).save(root / "b.jpg")
    photo(1).save(path, "JPEG")
    if text is None:
        check(sanitize(root, format=form))
        return
    # Before anything is denoised.
    monkeypatch.setattr("poison_and_defend.diffusion.batches.BatchedDenoiser._evaluate", None)
    with pytest.raises(InputError, match=rf"{text}.*\(--out\)"):
        sanitize(root, format=form)


def test_two_names_that_a_longer_suffix_keeps_apart_must_have_room_for_it(sanitize, tmp_path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    for suffix in (".jpg", ".png"):
        photo(1).save(root / ("x" * 250 + suffix))
    with pytest.raises(InputError, match="more than 255 bytes"):
        sanitize(root)


@pytest.mark.parametrize("kind", ["fifo", "device", "huge", "socket"])
def test_what_has_no_end_is_an_unreadable_image(sanitize, tmp_path, kind: str, monkeypatch) -> None:
    root = write_photos(tmp_path / "in", 4)
    path = root / "class0" / "z.png"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "huge":
        with open(path, "wb") as file:
            os.truncate(file.fileno(), 1 << 40)
    else:
        import socket

        monkeypatch.chdir(root / "class0")
        socket.socket(socket.AF_UNIX).bind("z.png")
        monkeypatch.chdir(tmp_path)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            sanitize(root, follow_links=True)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive() and not failed
    (entry,) = check(tmp_path / "out")["not_sanitized"]
    reason = "it has more than 1073741824 bytes" if kind == "huge" else "it is no regular file"
    assert entry["file"] == "class0/z.png" and reason in entry["reason"]


@pytest.mark.parametrize("unreadable", ["copy", "skip"])
def test_a_link_to_a_private_file_is_never_published(sanitize, tmp_path, unreadable: str) -> None:
    root = write_photos(tmp_path / "in", 4)
    (tmp_path / "private.txt").write_text("my password")
    (root / "class0" / "f.png").symlink_to(tmp_path / "private.txt")
    with pytest.raises(InputError, match=r"f\.png is a link that leads out of .*--data\.follow_links true"):
        sanitize(root, unreadable=unreadable)
    # Nor one that became a link after the folder was listed.
    (root / "class0" / "f.png").unlink()
    (root / "class0" / "f.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"f\.png is a link"):
        sanitize_with_a_swap(sanitize, root, tmp_path / "private.txt", unreadable)
    assert not [content for content in tree(tmp_path / "out").values() if b"password" in content]


def sanitize_with_a_swap(sanitize, root, target, unreadable: str) -> None:
    from poison_and_defend.storage.folder_source import FolderSource

    original = FolderSource.save

    def swapped(self, folder):
        found = original(self, folder)
        (root / "class0" / "f.png").unlink()
        (root / "class0" / "f.png").symlink_to(target)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FolderSource, "save", swapped)
        sanitize(root, unreadable=unreadable)


def test_links_that_may_lead_out_are_followed(sanitize, tmp_path) -> None:
    root = write_photos(tmp_path / "in", 2)
    (root / "class2").symlink_to(write_photos(tmp_path / "more", 2) / "class0")
    out = sanitize(root, follow_links=True)
    assert check(out)["sanitized"] == 3 and not (out / "class2").is_symlink()


def test_what_is_not_taken_is_named_on_the_page_and_in_the_manifest(sanitize, tmp_path, capsys) -> None:
    root = write_every_kind(tmp_path / "in")
    for number in range(12):
        (root / f"{number:02d}.json").write_text("{}")
    manifest = check(sanitize(root))
    assert manifest["not_taken"] == [".hidden.png", *(f"{n:02d}.json" for n in range(12)), "trees/notes.txt"]
    printed = capsys.readouterr().out
    assert "not taken, since they are no images or hidden: .hidden.png, 00.json, " in printed
    assert "and 4 more, which the manifest names" in printed


def test_files_from_microscopes_and_satellites(sanitize, tmp_path, capsys) -> None:
    root = tmp_path / "in"
    root.mkdir()
    for form, suffix in (("BMP", "bmp"), ("TIFF", "tif"), ("GIF", "gif"), ("PPM", "ppm")):
        photo(1).save(root / f"a_{suffix}.{suffix}", form)
    Image.fromarray(np.linspace(0, 4095, 256).reshape(16, 16).astype(np.uint16)).save(root / "camera.png")
    out = sanitize(root)
    printed = capsys.readouterr().out
    assert sorted(path.name for path in out.glob("*.png")) == ["a_bmp.png", "a_gif.png", "a_ppm.png", "a_tif.png", "camera.png"]
    assert "1 of 5 images looked at have 16 bits and no value above 4095" in printed and "(--data.bits 12)" in printed
    assert {r.note for r in read_records(out / "rows.csv")} == {"", "16 bits up to 4095"}
    dark = np.asarray(Image.open(out / "camera.png")).mean()
    bright = sanitize(root, tmp_path / "bright", bits=12)
    assert "nearly black" not in capsys.readouterr().out
    assert dark < 40 < 100 < np.asarray(Image.open(bright / "camera.png")).mean()
    with pytest.raises(InputError, match=r"made with bits = 12, now it is None"):
        sanitize(root, bright)


@pytest.mark.parametrize("given", ["one", "list", "pattern"])
def test_one_image_a_list_and_a_pattern_are_sanitized(sanitize, tmp_path, given: str, monkeypatch) -> None:
    root = write_photos(tmp_path / "in", 4)
    named = {
        "one": str(root / "class0" / "0000.png"),
        "list": [str(root / "class1" / "0003.png"), str(root / "class0" / "0000.png")],
        "pattern": str(root / "*" / "*3.png"),
    }[given]
    # The output may lie beside what was named.
    out = sanitize(named, root / "class0" / "clean" if given == "one" else tmp_path / "out")
    expected = {"one": ["0000.png"], "list": ["class0/0000.png", "class1/0003.png"], "pattern": ["0003.png"]}[given]
    assert sorted(tree(out)) == sorted([*expected, "manifest.json", "rows.csv"])
    check(out, source=root / "class0" if given == "one" else root / "class1" if given == "pattern" else root)


def test_an_output_cannot_be_called_like_an_image_or_hold_the_input(sanitize, tmp_path) -> None:
    root = write_photos(tmp_path / "in", 4)
    one = str(root / "class0" / "0000.png")
    for out, text in ((tmp_path / "clean.png", "is named like an image"), (root / "class0", r"0000\.png lies in the output")):
        with pytest.raises(InputError, match=rf"{text}.*\(--out\)"):
            sanitize(one, out)
    with pytest.raises(InputError, match=r"x00b.* cannot be the name of an output"):
        sanitize(one, "a\0b")


def test_nothing_is_warned_of(sanitize, tmp_path) -> None:
    root = write_every_kind(tmp_path / "in")
    photo(1).convert("L").save(root / "birds" / "grey.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        sanitize(root)
        sanitize(root, tmp_path / "two", large="resize")


def test_equal_sets_have_equal_bytes_whenever_they_are_made(sanitize, tmp_path, monkeypatch) -> None:
    import time

    root = write_photos(tmp_path / "in", 4)
    one = sanitize(root, tmp_path / "one.npz").read_bytes()
    later = time.localtime(time.time() + 1_000_000)
    monkeypatch.setattr(time, "localtime", lambda *seconds: later)
    assert sanitize(root, tmp_path / "two.npz").read_bytes() == one


@pytest.mark.slow
def test_the_estimate_of_a_large_image_is_right_within_a_factor_of_two(tmp_path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    photo(0, 600, 420).resize((1300, 900)).save(root / "large.png")
    command = [sys.executable, "-m", "poison_and_defend", "sanitize", "--data.root", str(root), "--out", str(tmp_path / "out"),
               "--sigma", "0.1", "--denoiser", "cifar10"]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    foretold, took = (int(printed.split(text)[1].split(" s")[0].strip("(")) for text in ("about ", f"{tmp_path / 'out'} ("))
    assert took > 3 and foretold / 2 <= took <= foretold * 2
