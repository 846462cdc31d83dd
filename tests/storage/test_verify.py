"""What a training script would read and the manifest does not name, or names otherwise, is found."""

import json
import os
import shutil
import zipfile

import numpy as np
import pytest
import torch
from torchvision.datasets import ImageFolder

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.sanitizing.engine import sanitize as sanitize_array
from poison_and_defend.storage.targets.base import digest_set
from poison_and_defend.storage.verify import verify
from tests.countermeasures import rewriter
from tests.picture_folders import photo, write_photos


def check(place, expected: str | None = None) -> dict:
    return verify(place, lambda done, total: None, expected=expected)


@pytest.fixture
def clean(make_set):
    return make_set("clean")


@pytest.mark.parametrize(
    "name",
    ["class0/zz.bmp", "class0/zz.tif", "class0/zz.ppm", "class0/zz.pgm", "zz.png", "class9/a.png", "class0/.hidden.png",
     "class0/deep/a.webp", "class0/labels.csv", ".unfinished/plan.json", "class0/Thumbs.db", "empty/"],
)  # fmt: skip
def test_everything_that_the_manifest_does_not_name_is_one_too_many(clean, name: str) -> None:
    path = clean / name
    path.parent.mkdir(exist_ok=True)
    if name.endswith("/"):
        path.mkdir()
    elif path.suffix in (".csv", ".json", ".db"):
        path.write_text("x")
    else:
        photo(1).convert("L" if path.suffix == ".pgm" else "RGB").save(path)
    with pytest.raises(InputError, match=rf"is damaged: .*{name.rstrip('/')} is one too many.*\(--verify\)"):
        check(clean)


@pytest.mark.parametrize("place", ["class0/more", "more", "class0/zz.png"])
def test_links_to_unsanitized_images_are_refused(clean, tmp_path, place: str) -> None:
    raw = write_photos(tmp_path / "raw", 2)
    (clean / place).symlink_to(raw / "class0" / "0000.png" if place.endswith(".png") else raw)
    assert len(ImageFolder(clean).samples) > 6
    with pytest.raises(InputError, match=rf"is damaged: {place} is a link \(--verify\)"):
        check(clean)


def test_an_image_that_became_a_link_to_the_same_bytes_is_refused(clean, tmp_path) -> None:
    path = clean / "class0" / "0002.png"
    path.rename(tmp_path / "elsewhere.png")
    path.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(InputError, match=r"class0/0002\.png (cannot be read|is a link)"):
        check(clean)


def test_a_class_that_became_a_link_is_refused(clean, tmp_path) -> None:
    (clean / "class0").rename(tmp_path / "elsewhere")
    (clean / "class0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="class0 is a link"):
        check(clean)


@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_a_manifest_that_was_edited_has_another_digest(make_set, kind: str) -> None:
    place = make_set("clean.npz" if kind == "npz" else "clean")
    digest = digest_set(check(place))
    assert check(place, digest) == check(place, f" {digest.upper()}\n")

    def edit(text: str) -> str:
        value = json.loads(text)
        value["settings"]["sigma"] = 0.5
        return json.dumps(value, indent=2) + "\n"

    if kind == "folder":
        (place / "manifest.json").write_text(edit((place / "manifest.json").read_text()))
    else:
        with zipfile.ZipFile(place) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(place, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, edit(data.decode()) if name == "manifest.json" else data)
    assert check(place)["settings"]["sigma"] == 0.5
    with pytest.raises(InputError, match=rf"has the digest [0-9a-f]{{64}}, not {digest}.*\(--expect\)"):
        check(place, digest)


@pytest.mark.parametrize("change", ["labels", "more", "twice", "images"])
def test_arrays_that_were_changed_with_their_checksums_are_found(make_set, change: str) -> None:
    place = make_set("clean.npz")
    with zipfile.ZipFile(place) as archive:
        content = [(name, archive.read(name)) for name in archive.namelist()]
    if change in ("labels", "images"):
        content = [(name, data[:-1] + bytes([data[-1] ^ 1]) if name == f"{change}.npy" else data) for name, data in content]
    else:
        content.append(("extra.npy" if change == "more" else "labels.npy", content[1][1]))
    with zipfile.ZipFile(place, "w") as archive:
        for name, data in content:
            archive.writestr(name, data)
    assert len(np.load(place)["labels"]) == 6
    text = {"labels": "its labels were changed", "images": "image 5 was changed"}.get(change, "does not hold the four members")
    with pytest.raises(InputError, match=text):
        check(place)


def test_a_file_beside_an_experiments_array_is_one_too_many(tmp_path) -> None:
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    sanitize_array(images, torch.arange(4), rewriter("noise_only"), tmp_path / "store", Ranks(), batch_size=2)
    check(tmp_path / "store")
    shutil.copy(tmp_path / "store" / "images.npy", tmp_path / "store" / "other.npy")
    with pytest.raises(InputError, match=r"other\.npy is one too many"):
        check(tmp_path / "store")


@pytest.mark.parametrize("output", ["/dev/zero", "../../secret.png", "class0/../../x.png", "class0//0002.png", "a\0b", "."])
def test_names_that_lead_out_of_the_set_are_never_opened(clean, output: str) -> None:
    from poison_and_defend.core.hashing import checksum

    text = (clean / "rows.csv").read_text().replace("class0/0002.png,class0/0002.png", f"class0/0002.png,{output}")
    assert output in text
    (clean / "rows.csv").write_text(text)
    manifest = json.loads((clean / "manifest.json").read_text())
    (clean / "manifest.json").write_text(json.dumps(manifest | {"rows": checksum(text.encode())}))
    with pytest.raises(InputError, match="is no list of sanitized images"):
        check(clean)


@pytest.mark.parametrize(
    ("field", "value"),
    [("count", "six"), ("count", 10**30), ("count", True), ("rows", None), ("settings", []), ("not_sanitized", [1]),
     ("not_sanitized", [{"row": 1}]), ("lost_classes", [2]), ("sanitized", 5.5)],
)  # fmt: skip
def test_manifests_with_other_values_are_one_sentence(clean, field: str, value) -> None:
    manifest = json.loads((clean / "manifest.json").read_text())
    (clean / "manifest.json").write_text(json.dumps(manifest | {field: value}))
    with pytest.raises(InputError, match=r"manifest\.json is damaged or no manifest of a sanitized set.*\(--verify\)"):
        check(clean)


def test_files_that_never_end_are_refused_at_once(clean) -> None:
    (clean / "class0" / "0002.png").unlink()
    os.mkfifo(clean / "class0" / "0002.png")
    with pytest.raises(InputError, match=r"class0/0002\.png cannot be read \(it is no regular file\)"):
        check(clean)
    (clean / "rows.csv").unlink()
    os.mkfifo(clean / "rows.csv")
    with pytest.raises(InputError, match=r"rows\.csv, cannot be read"):
        check(clean)
