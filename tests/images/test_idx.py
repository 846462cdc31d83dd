import gzip
import struct

import numpy as np
import pytest

from poison_and_defend.core.errors import InputError
from poison_and_defend.images.idx import read_idx

ARRAY = np.random.default_rng(0).integers(0, 256, (5, 3, 4), dtype=np.uint8)
CONTENT = struct.pack(">BBBB3I", 0, 0, 8, 3, *ARRAY.shape) + ARRAY.tobytes()


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_values_are_those_of_the_file(tmp_path, ending: str) -> None:
    path = tmp_path / f"images{ending}"
    path.write_bytes(gzip.compress(CONTENT, mtime=0) if ending else CONTENT)
    found = read_idx(path)
    np.testing.assert_array_equal(found, ARRAY)
    assert found.flags.writeable


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("short", CONTENT[:-1], "says 60 values and has 59"),
        ("long", CONTENT + b"0", "says 60 values and has 61"),
        ("floats", b"\0\0\x0d" + CONTENT[3:], "begins with 00000d03"),
        ("other", b"\x89PNG" + CONTENT[4:], "begins with 89504e47"),
        ("empty", b"", "unpack_from requires"),
        ("cut.gz", gzip.compress(CONTENT, mtime=0)[:-9], "ends early"),
        ("more.gz", gzip.compress(CONTENT, mtime=0) + b"more", "goes on behind its end"),
        ("plain.gz", CONTENT, "incorrect header"),
    ],
    ids=["short", "long", "floats", "other", "empty", "cut", "more", "plain"],
)
def test_any_other_file_is_refused_by_name(tmp_path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name} is damaged or no IDX file of unsigned bytes: .*{reason}.*\(--data.root\)"):
        read_idx(tmp_path / name)


def test_a_bomb_is_not_unpacked(tmp_path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(CONTENT + bytes(1 << 27)))
    with pytest.raises(InputError, match="too large"):
        read_idx(path)
