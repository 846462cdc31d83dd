from pathlib import Path

import pytest

from poison_and_defend.core.errors import InputError
from poison_and_defend.diffusion.denoiser import load_denoiser
from poison_and_defend.diffusion.training_range import read_training_range, write_training_range


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_training_range(tmp_path) is None
    write_training_range(tmp_path, None)
    assert not list(tmp_path.iterdir())
    write_training_range(tmp_path, 0.3)
    assert read_training_range(tmp_path) == 0.3


@pytest.mark.parametrize(("name", "most"), [("digits", None), ("cifar10", 0.3), ("mnist", 1.05)])
def test_the_shipped_denoisers_say_what_they_were_trained_on(name: str, most: float | None) -> None:
    assert load_denoiser(f"poison_and_defend/pretrained/{name}").trained == most


VALUES = ['"0.3"', "-1", "0", "true", "NaN", "1e999", "0.3" + " " * 9999]
CONTENTS = [
    b"",
    b"{",
    b"[]",
    b"{}",
    b"\xff\xfe\x00{",
    b"[" * 9999,
    *(b'{"max_sigma": %s}' % value.encode() for value in VALUES),
]


@pytest.mark.parametrize("content", [*CONTENTS, *(b'{"max_sigma": %s}' % value.encode() for value in VALUES)])
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "denoiser.json").write_bytes(content)
    with pytest.raises(InputError, match=r"denoiser\.json (does not say|is damaged or no note)|has more than 4096 bytes"):
        read_training_range(tmp_path)
