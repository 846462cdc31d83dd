"""What a repetition, a resumed run and a finished one make of inputs, records and files that changed on the way."""

import json
import os

import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.noise_secret import secret_path
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.storage.ledger import BlockStore
from poison_and_defend.training.launch import Launch
from tests.picture_folders import check, photo, tree, write_photos

# Changed inputs


@pytest.mark.parametrize("out", ["out", "out.npz"])
@pytest.mark.parametrize("same_time", [False, True])
def test_a_changed_input_of_a_complete_set_is_refused(sanitize, tmp_path, out: str, same_time: bool) -> None:
    root = write_photos(tmp_path / "in", 6)
    sanitize(root, tmp_path / out)
    path, before = root / "class0" / "0002.png", (root / "class0" / "0002.png").stat()
    photo(77).save(path)
    if same_time:
        # A copy that keeps times has another length, nearly always.
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size != before.st_size
    with pytest.raises(InputError, match=r"class0/0002\.png changed since .*out.* was made from it: put it back.*\(--out\)"):
        sanitize(root, tmp_path / out)


def test_an_input_that_was_only_touched_or_copied_is_the_same(sanitize, tmp_path, capsys, monkeypatch) -> None:
    root = write_photos(tmp_path / "in", 6)
    out = sanitize(root)
    os.utime(root / "class0" / "0002.png", (5, 5))
    sanitize(root)
    assert "nothing is done twice" in capsys.readouterr().out
    (tmp_path / ".out.inputs.npy").unlink()
    sanitize(root)
    assert (tmp_path / ".out.inputs.npy").exists()
    # Where sizes and times are known, contents are not read again.
    monkeypatch.setattr("poison_and_defend.storage.folder_source.FolderSource.content", None)
    assert sanitize(root) == out


@pytest.mark.parametrize("change", ["mended", "removed"])
def test_an_image_that_could_not_be_read_and_now_can_is_a_change(sanitize, tmp_path, change: str) -> None:
    root = write_photos(tmp_path / "in", 6)
    path = root / "class0" / "0002.png"
    good = path.read_bytes()
    path.write_bytes(good[:40])
    sanitize(root)
    if change == "mended":
        path.write_bytes(good)
    else:
        path.unlink()
        path.symlink_to("nowhere")
    with pytest.raises(InputError, match=r"class0/0002\.png changed since"):
        sanitize(root)


def test_a_changed_input_is_refused_when_a_run_continues(sanitize, tmp_path, stopped_after) -> None:
    root = write_photos(tmp_path / "in", 8)
    with stopped_after(2):
        sanitize(root, batch_size=2)
    store = BlockStore(tmp_path / "out" / ".unfinished", "--out")
    done = {record.file for record in store.done_records()}
    first = sorted(done)[0]
    later = sorted({str(path.relative_to(root)) for path in root.rglob("*.png")} - done)[0]
    good = (root / first).read_bytes()
    photo(77).save(root / first)
    photo(78).save(root / later)
    with pytest.raises(InputError, match=rf"{first} changed since"):
        sanitize(root, batch_size=2)
    (root / first).write_bytes(good)
    # What was not done yet may change: it is read when its turn comes.
    check(sanitize(root, batch_size=2), source=root)


def test_other_labels_of_the_same_images_are_another_set(sanitize, denoiser_folder, tmp_path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 1), dtype=np.uint8)
    for out in ("a.npz", "a"):
        np.savez(tmp_path / "in.npz", images=images, labels=np.arange(6) % 2)
        sanitize(tmp_path / "in.npz", tmp_path / out, denoiser=denoiser_folder)
        np.savez(tmp_path / "in.npz", images=images, labels=np.arange(6) % 3)
        with pytest.raises(InputError, match=r"made with labels = .*--out"):
            sanitize(tmp_path / "in.npz", tmp_path / out, denoiser=denoiser_folder)


@pytest.mark.parametrize("out", ["out", "out.npz"])
@pytest.mark.parametrize("array", [False, True])
def test_a_second_rank_joins_what_the_first_began(
    sanitize, tmp_path, stopped_after, monkeypatch, out: str, array: bool
) -> None:
    root = write_photos(tmp_path / "in", 8)
    if array:
        images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
        root = tmp_path / "in.npz"
        np.savez(root, images=images, labels=np.arange(8) % 2)
    with stopped_after(1):
        sanitize(root, tmp_path / out, batch_size=2)
    with monkeypatch.context() as patch:
        patch.setattr(Launch, "start", lambda launch: Ranks(rank=1, world=2))
        sanitize(root, tmp_path / out, batch_size=2)
        with pytest.raises(InputError, match=r"made with sigma = 0\.1, now it is 0\.2"):
            sanitize(root, tmp_path / out, batch_size=2, sigma=0.2)
    check(tmp_path / out, source=None if array else root)
    found, alone = tmp_path / out, sanitize(root, tmp_path / "alone" / out, batch_size=2)
    assert found.read_bytes() == alone.read_bytes() if alone.is_file() else tree(found) == tree(alone)


# Records and classes


@pytest.mark.parametrize("damage", ["lines", "half a line", "row", "empty", "bytes", "status"])
def test_a_record_that_is_not_whole_is_a_block_that_is_not_done(sanitize, tmp_path, stopped_after, damage: str) -> None:
    root = write_photos(tmp_path / "in", 12)
    whole = tree(sanitize(root, tmp_path / "undisturbed", batch_size=4))
    with stopped_after(2):
        sanitize(root, batch_size=4)
    record = next((tmp_path / "out" / ".unfinished" / "blocks").iterdir())
    text = record.read_text()
    lines = text.splitlines(keepends=True)
    record.write_bytes(
        {
            "lines": "".join(lines[:1]).encode(),
            "half a line": text[: len(text) // 2].encode(),
            "row": text.replace(lines[0].partition(",")[0] + ",", "99,", 1).encode(),
            "empty": b"",
            "bytes": b"\xff\xfe" + text.encode(),
            "status": text.replace("sanitized", "sanitised").encode(),
        }[damage]
    )
    out = sanitize(root, batch_size=4)
    assert check(out)["sanitized"] == 12 and tree(out) == whole


@pytest.mark.parametrize("out", ["out", "out.npz"])
def test_a_class_none_of_whose_images_can_be_read_keeps_its_number(sanitize, tmp_path, out: str, capsys) -> None:
    root = write_photos(tmp_path / "in", 9, classes=3)
    for path in (root / "class1").iterdir():
        path.write_bytes(b"broken")
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"no image of the classes class1 could be sanitized: .*labels do not shift|have no row"
        ):
            sanitize(root, tmp_path / out)
        assert "6 of 9 images are sanitized" in capsys.readouterr().out
    assert check(tmp_path / out)["lost_classes"] == ["class1"]
    if out == "out":
        with pytest.raises(FileNotFoundError, match="class1"):
            ImageFolder(tmp_path / "out")
        found = ImageFolder(tmp_path / "out", allow_empty=True)
        assert found.classes == ["class0", "class1", "class2"] and [label for _, label in found.samples] == [0] * 3 + [2] * 3
    else:
        assert np.load(tmp_path / out)["labels"].tolist() == [0] * 3 + [2] * 3


def test_copied_files_are_images_of_their_class(sanitize, tmp_path) -> None:
    root = write_photos(tmp_path / "in", 4)
    for path in (root / "class1").iterdir():
        path.write_bytes(b"broken")
    assert check(sanitize(root, unreadable="copy"))["lost_classes"] == []


# Secrets


def test_noise_is_secret_unless_a_seed_is_given(sanitize, tmp_path, capsys) -> None:
    root = write_photos(tmp_path / "in", 4)
    one, two = sanitize(root, noise_seed=None), sanitize(root, tmp_path / "two", noise_seed=None)
    assert (one / "class0" / "0000.png").read_bytes() != (two / "class0" / "0000.png").read_bytes()
    settings = check(one)["settings"]
    private = secret_path(one, settings["commitment"])
    seed = json.loads(private.read_text())["seed"]
    assert settings["seed"] == "secret" and str(seed) not in (one / "manifest.json").read_text()
    assert f"kept in {private}" in capsys.readouterr().out
    # Whoever owns the private file can show what was done.
    told = sanitize(root, tmp_path / "told", noise_seed=seed)
    assert {n: c for n, c in tree(told).items() if "/" in n} == {n: c for n, c in tree(one).items() if "/" in n}
    assert f"given seed {seed}: whoever knows it" in capsys.readouterr().out


def test_a_secret_is_continued_and_without_its_file_nothing_is(sanitize, tmp_path, stopped_after) -> None:
    root = write_photos(tmp_path / "in", 8)
    with stopped_after(2):
        sanitize(root, batch_size=2, noise_seed=None)
    plan = json.loads((tmp_path / "out" / ".unfinished" / "plan.json").read_text())
    private = secret_path(tmp_path / "out", plan["settings"]["commitment"])
    content = private.read_text()
    assert str(json.loads(content)["seed"]) not in "".join(
        path.read_text(errors="replace") for path in (tmp_path / "out").rglob("*") if path.is_file()
    )
    private.unlink()
    with pytest.raises(InputError, match=r"the noise seed of .*out is gone with its private file .*\(--out\)"):
        sanitize(root, batch_size=2, noise_seed=None)
    private.write_text(content)
    out = sanitize(root, batch_size=2, noise_seed=None)
    told = sanitize(root, tmp_path / "told", batch_size=2, noise_seed=json.loads(content)["seed"])
    assert {n: c for n, c in tree(told).items() if "/" in n} == {n: c for n, c in tree(out).items() if "/" in n}
    # Of a finished set it is needed no more.
    private.unlink()
    sanitize(root, batch_size=2, noise_seed=None)


def test_a_set_of_a_given_seed_is_not_one_of_a_secret(sanitize, tmp_path) -> None:
    root = write_photos(tmp_path / "in", 4)
    sanitize(root, noise_seed=3)
    with pytest.raises(InputError, match="made with seed = 3, now it is secret"):
        sanitize(root, noise_seed=None)
