import io
import struct
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import save_array, save_arrays
from poison_and_defend.core.reading import arrays as reading_arrays
from poison_and_defend.core.reading.arrays import parse_tensors, read_array, read_npz, read_tensors, tensor_sizes

VALUES = np.arange(24, dtype=np.int32).reshape(2, 3, 4)


def header(shape: str, descr: str = "'<i4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n"


@pytest.mark.parametrize("array", [VALUES, np.asfortranarray(VALUES), VALUES[:0], np.float64(3), np.zeros((0, 3), np.uint8)])
def test_arrays_come_back(tmp_path, array) -> None:
    save_array(tmp_path / "a.npy", np.asanyarray(array))
    save_arrays(tmp_path / "a.npz", {"a": np.asanyarray(array), "b": VALUES})
    for found in (read_array(tmp_path / "a.npy", "no array", "--x"), read_npz(tmp_path / "a.npz", "none", "--x")["a"]):
        assert np.array_equal(found, array) and found.dtype == np.asanyarray(array).dtype and found.shape == np.shape(array)


LIES = {
    "more than there is": header("(1000000000000,)") + VALUES.tobytes(),
    "overflow": header("(4611686018427387904, 4)") + VALUES.tobytes(),
    "less than there is": header("(3,)") + VALUES.tobytes(),
    "negative": header("(-24,)") + VALUES.tobytes(),
    "not numbers": header("('a',)") + VALUES.tobytes(),
    "objects": header("(24,)", "'|O'") + VALUES.tobytes(),
    "fields of objects": header("(24,)", "[('a', 'O')]") + VALUES.tobytes(),
    "code": header("(__import__('os').system('true'),)") + VALUES.tobytes(),
    "nested": header("(" * 5000 + ")" * 5000) + VALUES.tobytes(),
    "version 9": b"\x93NUMPY\x09\x00" + header("(24,)")[8:] + VALUES.tobytes(),
    "nothing": b"",
    "cut": header("(2, 3, 4)")[:20],
    "unclosed": header("(24,").replace(b"}", b" ") + VALUES.tobytes(),
    "zeros": header("(24,)").replace(b"shape", bytes(5)) + VALUES.tobytes(),
    "text": b"hello world, this is no array at all",
}


@pytest.mark.parametrize("name", LIES)
def test_headers_that_lie_are_one_sentence(tmp_path, name: str) -> None:
    (tmp_path / "a.npy").write_bytes(LIES[name])
    with pytest.raises(InputError, match=r"a\.npy is damaged or no array: .+ \(--x\)$"):
        read_array(tmp_path / "a.npy", "no array", "--x")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", LIES[name])
    with pytest.raises(InputError, match=r"a\.npz is damaged or no set: .+ \(--x\)$"):
        read_npz(tmp_path / "a.npz", "no set", "--x")


def test_expectations_are_checked_before_memory_is_taken(tmp_path) -> None:
    save_array(tmp_path / "a.npy", VALUES)
    save_arrays(tmp_path / "a.npz", {"a": VALUES})
    assert read_array(tmp_path / "a.npy", "none", "--x", dtype=np.int32, shape=(2, None, 4)).shape == (2, 3, 4)
    with pytest.raises(InputError, match="its numbers are int32, not uint8"):
        read_array(tmp_path / "a.npy", "none", "--x", dtype=np.uint8)
    for shape in [(2, 3), (2, 3, 5)]:
        with pytest.raises(InputError, match=r"its shape is \(2, 3, 4\)"):
            read_npz(tmp_path / "a.npz", "none", "--x", shapes={"a": shape})
    with pytest.raises(InputError, match="more than 50"):
        read_npz(tmp_path / "a.npz", "none", "--x", limit=50)
    with pytest.raises(InputError, match="no array named b, only a"):
        read_npz(tmp_path / "a.npz", "none", "--x", names=["a", "b"])


def test_a_bomb_is_refused_by_its_declared_size(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header("(25000000,)") + bytes(100_000_000))
    assert (tmp_path / "a.npz").stat().st_size < 200_000
    with pytest.raises(InputError, match="more than 10000000"):
        read_npz(tmp_path / "a.npz", "none", "--x", limit=10_000_000)


def test_a_bomb_is_refused_by_how_much_it_grows(tmp_path, monkeypatch) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header("(25000000,)") + bytes(100_000_000))
    read_npz(tmp_path / "a.npz", "none", "--x")
    monkeypatch.setattr(reading_arrays, "_PACKED", (1 << 20, 100))
    with pytest.raises(InputError, match=r"it has 100000000 bytes, more than \d{7,8} \(--x\)$"):
        read_npz(tmp_path / "a.npz", "none", "--x")


def test_a_changed_byte_and_two_arrays_of_one_name_are_refused(tmp_path) -> None:
    with io.BytesIO() as buffer:
        np.savez(buffer, a=VALUES)
        content = bytearray(buffer.getvalue())
    place = content.index(VALUES.tobytes())
    content[place + 40] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match="CRC"):
        read_npz(tmp_path / "a.npz", "none", "--x")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.npy", header("(24,)") + VALUES.tobytes())
        archive.writestr("a.npy", header("(24,)") + VALUES.tobytes())
    with pytest.raises(InputError, match="two arrays of one name"):
        read_npz(tmp_path / "b.npz", "none", "--x")


def test_tensors(tmp_path) -> None:
    content = save({"a": torch.arange(6).reshape(2, 3)})
    (tmp_path / "a.safetensors").write_bytes(content)
    assert torch.equal(read_tensors(tmp_path / "a.safetensors", "none", "--x")["a"], torch.arange(6).reshape(2, 3))
    for bad in (b"", content[:20], struct.pack("<Q", 2**60) + content[8:], content[:-1], content[:8] + b"[" * 40):
        with pytest.raises(InputError, match=r"^a is damaged or no weights: .*\(--x\)$"):
            parse_tensors(bad, "a", "no weights", "--x")
    with pytest.raises(InputError, match="more than 20 bytes"):
        read_tensors(tmp_path / "a.safetensors", "none", "--x", limit=20)


def test_how_much_tensors_hold_is_known_from_their_header(tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({"a": torch.zeros(2, 3), "b": torch.zeros(()), "c": torch.zeros(5, dtype=torch.bfloat16)}))
    assert tensor_sizes(path, "none", "--x") == {"a": 6, "b": 1, "c": 5}
    with pytest.raises(InputError, match="more than 20"):
        tensor_sizes(path, "none", "--x", limit=20)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"^.*a\.safetensors is damaged or none: .*\(--x\)$"):
        tensor_sizes(path, "none", "--x")


def test_absence_passes_where_it_is_no_damage(tmp_path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_array(tmp_path / "a.npy", "none", "--x")
    with pytest.raises(FileNotFoundError):
        read_array(tmp_path / "a.npy", "none", "--x", absent=True)
