import errno
import os
from pathlib import Path

import numpy as np
import pytest

from poison_and_defend.core.errors import InputError
from poison_and_defend.transforms.pixel_file import PixelFile


def seven(array: np.ndarray) -> None:
    array.fill(7)


def make(path: Path) -> np.ndarray:
    return PixelFile(path).read_or_make(1000, seven)


def test_pixels_are_made_once_and_cannot_be_written_to(tmp_path) -> None:
    made = make(tmp_path / "a.npy")
    assert (made == 7).all() and made.shape == (1000,) and not made.flags.writeable
    before = (tmp_path / "a.npy").stat().st_mtime_ns
    make(tmp_path / "a.npy")
    assert (tmp_path / "a.npy").stat().st_mtime_ns == before


@pytest.mark.parametrize("keep", [0, 50, 500, -1])
def test_what_is_cut_or_changed_is_made_again(tmp_path, keep: int) -> None:
    path = tmp_path / "a.npy"
    make(path)
    whole = path.read_bytes()
    for content in (whole[:keep], whole[:keep] + b"x" + whole[keep:][1:]):
        path.write_bytes(content)
        assert (make(path) == 7).all() and path.read_bytes() == whole


def test_a_pipe_in_its_place_is_replaced_and_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "a.npy")
    assert (make(tmp_path / "a.npy") == 7).all()


def test_a_folder_in_its_place_is_one_sentence(tmp_path) -> None:
    (tmp_path / "a.npy").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*a\.npy: Is a directory \(folder\)"):
        make(tmp_path / "a.npy")


def test_a_full_disk_is_a_sentence_before_a_page_is_written(tmp_path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"there is no room left on the disk for .*a\.npy, which needs 0 MiB \(folder\)"):
        PixelFile(tmp_path / "a.npy").read_or_make(1000, pytest.fail)
    assert not list(tmp_path.iterdir())
