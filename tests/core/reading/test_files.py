import json
import os
import threading

import pytest

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import (
    brief,
    check_fields,
    guarded,
    open_regular,
    parse_json,
    read_bytes,
    read_json,
    read_regular,
    read_text,
)


def test_what_was_written_comes_back(tmp_path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, {"b": null}]}')
    assert read_json(path, "no file of ours", "--run") == {"a": [1, {"b": None}]}
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "missing.json", "no file of ours", "--run")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 20_000, "deep|recursion"),
        ("[" * 900 + "]" * 900, "nests deeper than 64 levels"),
        ('{"a":' * 70 + "1" + "}" * 70, "nests deeper than 64 levels"),
        ("{", "Expecting"),
        ("", "Expecting value"),
        ("1" * 5000, "integer"),
        (b"\xff\xfe\x00", "decode|utf|Expecting"),
    ],
)
def test_bad_json_is_one_sentence(text, reason: str) -> None:
    with pytest.raises(InputError, match=rf"(?s)^a file is damaged or no list: .*({reason}).*\(--run\)$"):
        parse_json(text, "a file", "no list", "--run")


def test_64_levels_are_read() -> None:
    text = "[" * 64 + "]" * 64
    assert parse_json(text, "a", "no list", "--run") == json.loads(text)


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "missing", "nul"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "nul":
        path = tmp_path / "a\0b"
    found: list[BaseException] = []

    def read() -> None:
        try:
            read_bytes(path, "--run")
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    assert len(found) == 1 and isinstance(found[0], InputError) and "(--run)" in str(found[0]) and "\0" not in str(found[0])


def test_bytes_are_bounded_and_links_can_be_refused(tmp_path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_regular(path, 4)
    (tmp_path / "link").symlink_to(path)
    assert read_regular(tmp_path / "link", 5) == b"12345"
    with pytest.raises(OSError):
        open_regular(tmp_path / "link", follow=False)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "no JSON object but of type list"),
        ({"count": 1}, "no field name"),
        ({"count": True, "name": "a"}, "its count is of type bool"),
        ({"count": "1", "name": "a"}, "its count is of type str"),
        ({"count": 1.0, "name": "a"}, "its count is of type float"),
    ],
)
def test_fields_of_other_types_are_refused(value, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        check_fields(value, {"count": int, "name": str}, "a.json", "no manifest", "--run")


def test_integers_are_numbers_and_good_values_come_back() -> None:
    value = {"a": 1, "b": 2.5, "c": None}
    assert check_fields(value, {"a": float, "b": float, "c": (str, type(None))}, "a", "no manifest", "--run") is value


def test_our_own_sentences_pass_as_they_are() -> None:
    with pytest.raises(InputError, match=r"^mine$"), guarded("a", "no file", "--run"):
        raise InputError("mine")
    with (
        pytest.raises(InputError, match=r"^a\\nb is damaged or no file: one two \(--run\)$"),
        guarded("a\nb", "no file", "--run"),
    ):
        raise ValueError("one\ntwo")


def test_text_is_text(tmp_path) -> None:
    (tmp_path / "a").write_text("\u00e9\n")
    assert read_text(tmp_path / "a", "no notes", "--run") == "\u00e9\n"
    (tmp_path / "a").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"is damaged or no notes: .*\(--run\)$"):
        read_text(tmp_path / "a", "no notes", "--run")


def test_what_is_quoted_is_short_and_on_one_line() -> None:
    assert brief("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert brief(list(range(1000))).endswith("...") and len(brief(list(range(1000)))) == 80 and len(brief("x" * 999, 10)) == 10
