import os
import subprocess
import sys
import time

import numpy as np
import pytest

from poison_and_defend.core import files
from poison_and_defend.core.files import partial_path, save_arrays, sweep_partials, write_bytes


def test_equal_arrays_give_equal_bytes_whenever_they_are_written(tmp_path, monkeypatch) -> None:
    arrays = {"a": np.arange(1000), "b": np.zeros((2, 3), np.float32), "c": np.bool_(True)}
    save_arrays(tmp_path / "one.npz", arrays)
    later = time.localtime(time.time() + 100_000)
    monkeypatch.setattr(time, "localtime", lambda *seconds: later)
    save_arrays(tmp_path / "two.npz", arrays)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz") as found:
        assert all(np.array_equal(found[name], value) for name, value in arrays.items()) and len(found.files) == 3


def test_what_the_dead_left_is_swept_and_what_the_living_write_is_not(tmp_path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from poison_and_defend.core.files import partial_path; partial_path(Path(sys.argv[1])).touch()"
    )
    (tmp_path / "deep").mkdir()
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "deep" / "a.json")], check=True)
    own = partial_path(tmp_path / "b.json")
    own.touch()
    foreign, old = (tmp_path / f".x.json.abcdef-{n}-01234567.partial" for n in (1, 2))
    for path in (foreign, old):
        path.touch()
    os.utime(old, (0, 0))
    (tmp_path / ".users.partial").touch()
    sweep_partials(tmp_path)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {own.name, foreign.name, ".users.partial"}


@pytest.mark.parametrize("fails", ["write", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, fails: str) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"old")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync" if fails == "write" else "replace", full)
    with pytest.raises(OSError):
        write_bytes(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and path.read_bytes() == b"old"
