import os

import pytest

from poison_and_defend.core.errors import InputError
from poison_and_defend.images.chosen_files import choose_files
from poison_and_defend.images.listing import Rules, in_order, iterate_images, list_folders, list_images
from tests.picture_folders import photo, write_photos


def names(folder, **rules) -> list[str]:
    return list(iterate_images(folder, Rules("--data.root", **rules)))


@pytest.fixture
def root(tmp_path):
    return write_photos(tmp_path / "in", 4)


@pytest.mark.parametrize("suffix", ["tga", "dng", "jxl", "jp2", "psd", "heic", "avif", "svg"])
def test_other_images_are_refused_on_every_machine(root, suffix: str, monkeypatch) -> None:
    monkeypatch.setattr("mimetypes.guess_type", lambda name: (None, None))
    (root / "class0" / f"scan.{suffix}").write_bytes(b"")
    with pytest.raises(
        InputError, match=rf"scan\.{suffix} is of a format that is not read \(JPEG, PNG, .* are\).*--data\.root"
    ):
        names(root)


def test_everything_that_is_not_taken_is_named(root) -> None:
    for name in ("notes.txt", "class0/labels.csv", "class0/.hidden.png", ".cache/a.png", "class1/noending"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"")
    passed: list[str] = []
    assert len(names(root, passed=passed.append)) == 4
    assert sorted(passed) == [".cache/", "class0/.hidden.png", "class0/labels.csv", "class1/noending", "notes.txt"]


@pytest.mark.parametrize("what", ["file", "folder", "dangling"])
def test_links_that_lead_out_are_refused_unless_they_may(root, tmp_path, what: str) -> None:
    outside = tmp_path / "outside"
    write_photos(outside, 2)
    target = {"file": outside / "class0" / "0000.png", "folder": outside, "dangling": tmp_path / "nowhere.png"}[what]
    (root / "class0" / "z.png").symlink_to(target)
    for call in (names, lambda folder: list_images(folder, Rules("--data.root"))):
        with pytest.raises(
            InputError, match=r"z\.png is a link that leads out of .*\(--data\.root; --data\.follow_links true\)"
        ):
            call(root)
    assert len(names(root, follow_links=True)) == (6 if what == "folder" else 5)


def test_links_that_stay_inside_are_followed(root) -> None:
    (root / "class0" / "again.png").symlink_to(root / "class1" / "0001.png")
    (root / "class2").symlink_to("class1")
    assert "class0/again.png" in names(root) and "class2/0001.png" in names(root)


def test_classes_that_are_links_out_are_refused_too(root, tmp_path) -> None:
    (root / "class9").symlink_to(write_photos(tmp_path / "outside", 2))
    with pytest.raises(InputError, match=r"class9 is a link that leads out .*\(--root; --follow_links true\)"):
        list_folders(root, Rules("--root"))
    rules = Rules("--root", follow_links=True)
    assert list_folders(root, rules) == ["class0", "class1", "class9"]
    assert len(list_images(root / "class9", rules, root)) == 2


def test_a_root_that_is_a_link_is_what_the_user_named(root, tmp_path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert names(tmp_path / "link") == names(root)


def test_one_image_a_list_and_a_pattern(root, tmp_path) -> None:
    (root / "readme.txt").write_text("")
    assert choose_files(str(root), "--x") == (root, None)
    assert choose_files(str(root / "class0" / "0002.png"), "--x") == (root / "class0", ["0002.png"])
    chosen = [str(root / "class1" / "0003.png"), str(root / "class0" / "0002.png")]
    assert choose_files(chosen, "--x") == (root, ["class0/0002.png", "class1/0003.png"])
    everything = ["class0/0000.png", "class0/0002.png", "class1/0001.png", "class1/0003.png"]
    assert choose_files(f"{root}/**/*.png", "--x") == choose_files(f"{root}/**", "--x") == (root, everything)
    photo(1).save(root / "z.png")
    order = names(root)
    assert in_order(order[::-1]) == order and order[0] == "z.png"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("nowhere", "there is no folder and no file nowhere: name a folder, an image, a pattern"),
        ("no*where", "no JPEG, .* image fits the pattern"),
        ("a\0b", r"a\\x00b cannot be the name"),
        ([], "the list of images is empty"),
        (["{root}/class0/0000.png", "{root}/class0/0001.png"], r"there is no image .*0001\.png"),
        (["{root}/class0/0000.png", "{root}/class0/../class0/0000.png"], r"0000\.png is named twice"),
        (["{root}/readme.txt"], r"readme\.txt is no JPEG, .* image"),
        ("{root}/readme.txt", r"readme\.txt is no JPEG, .* image"),
    ],
)
def test_what_cannot_be_chosen_is_one_sentence(root, given, text: str) -> None:
    (root / "readme.txt").write_text("")
    given = given.format(root=root) if isinstance(given, str) else [one.format(root=root) for one in given]
    with pytest.raises(InputError, match=rf"{text}.*\(--x\)"):
        choose_files(given, "--x")


def test_names_that_are_not_utf8_are_refused(root) -> None:
    bad = os.fsdecode(bytes(root / "class0") + b"/\xff.png")
    open(bad, "wb").close()
    for call in (lambda: names(root), lambda: choose_files(bad, "--data.root")):
        with pytest.raises(InputError, match="is not UTF-8"):
            call()
