"""Arrays and tensors from files that anybody may have written: what a header claims is checked before memory is taken."""

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.core.reading.files import guarded, open_regular, read_bytes

if TYPE_CHECKING:
    from torch import Tensor

MAX_BYTES = 1 << 36
"""Of an array, or of all tensors of a file."""

_PACKED = 1 << 30, 100
"""Bytes that a packed file may always become, and how many for each of its own, which can be made to become a thousand."""

Shape = Sequence[int | None]
"""Expected lengths of an array's axes, None for any."""


def read_header(file: IO[bytes], size: int, limit: int = MAX_BYTES) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Shape, dtype and whether Fortran's order, of an ``.npy`` stream that is left where its data begin.

    Args:
        file: At its beginning.
        size: Bytes of the whole stream.
        limit: Bytes that the data may have.

    Raises:
        ValueError: If the header is malformed, promises other data than there are or more than ``limit``, or objects.
    """
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"it has version {version[0]}.{version[1]} of the format")
    shape, fortran, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never read")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError("its shape is malformed")
    needed = prod(shape) * dtype.itemsize
    if needed != size - file.tell():
        raise ValueError(f"its header promises {needed} bytes of data and there are {size - file.tell()}")
    if needed > limit:
        raise ValueError(f"it has {needed} bytes, more than {limit}")
    return shape, dtype, fortran


def read_array(
    path: Path, what: str, option: str, *, dtype: Any = None, shape: Shape | None = None, absent: bool = False
) -> NDArray[Any]:
    """An ``.npy`` file, memory-mapped and copied only where written to.

    Args:
        path: The file.
        what: What it should be, as in "is damaged or ...": ``no array``.
        option: What the user should change if it cannot be read.
        dtype: That it must have; None for any but objects.
        shape: That it must have.
        absent: Whether `FileNotFoundError` passes as it is.

    Raises:
        InputError: If the file cannot be read or is none, or its header does not fit its length or what was expected.
    """
    with guarded(path, what, option, absent=absent):
        with open(open_regular(path), "rb") as file:
            found, kind, _ = read_header(file, path.stat().st_size)
        _check(found, kind, dtype, shape)
        if 0 in found:
            return np.zeros(found, kind)
        # Mode "c" since torch warns of memory that cannot be written to.
        return np.load(path, mmap_mode="c", allow_pickle=False)  # type: ignore[no-any-return]


def read_npz(
    path: Path,
    what: str,
    option: str,
    *,
    names: Iterable[str] | None = None,
    shapes: Mapping[str, Shape] | None = None,
    limit: int = MAX_BYTES,
) -> dict[str, NDArray[Any]]:
    """Arrays of an ``.npz`` file, into memory.

    Args:
        path: The file.
        what: What it should be, as in "is damaged or ...": ``no .npz of votes``.
        option: What the user should change if it cannot be read.
        names: Arrays to read, of which each must be there; None for all.
        shapes: That arrays must have.
        limit: Bytes that all of them may have together, uncompressed.

    Raises:
        InputError: If the file cannot be read or is none, lacks an array, or one's header does not fit its data or what
            was expected.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with guarded(path, what, option), open(open_regular(path), "rb") as raw, zipfile.ZipFile(raw) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if info.filename.endswith(".npy")}
        if len(members) < sum(info.filename.endswith(".npy") for info in archive.infolist()):
            raise ValueError("it holds two arrays of one name")
        limit = min(limit, max(_PACKED[0], _PACKED[1] * path.stat().st_size))
        for name in members if names is None else names:
            if name not in members:
                raise ValueError(f"it has no array named {name}, only {', '.join(sorted(members)) or 'others'}"[:300])
            left = limit - sum(array.nbytes for array in arrays.values())
            with archive.open(members[name]) as file:
                arrays[name] = _read_member(file, members[name].file_size, left, (shapes or {}).get(name))
    return arrays


def _read_member(file: IO[bytes], size: int, limit: int, expected: Shape | None) -> NDArray[Any]:
    shape, dtype, fortran = read_header(file, size, limit)
    _check(shape, dtype, None, expected)
    array: NDArray[Any] = np.empty(shape, dtype, order="F" if fortran else "C")
    if array.size:
        buffer = array.reshape(-1, order="A").view(np.uint8).data
        while buffer:
            count = file.readinto(buffer[: 1 << 24])  # type: ignore[attr-defined]
            if not count:
                raise EOFError("it ends too early")
            buffer = buffer[count:]
    # Reading to the end compares the checksum.
    if file.read(1):
        raise ValueError("it goes on after its data")
    return array


def _check(found: Sequence[int], kind: np.dtype[Any], dtype: Any, expected: Shape | None) -> None:
    if dtype is not None and kind != np.dtype(dtype):
        raise ValueError(f"its numbers are {kind}, not {np.dtype(dtype)}")
    if expected is not None and not (
        len(found) == len(expected) and all(e in (None, f) for f, e in zip(found, expected, strict=True))
    ):
        raise ValueError(f"its shape is {tuple(found)}, not ({', '.join('any' if e is None else str(e) for e in expected)})")


def read_tensors(path: Path, what: str, option: str, limit: int = MAX_BYTES) -> "dict[str, Tensor]":
    """The tensors of a safetensors file.

    Args:
        path: The file.
        what: What it should be, as in "is damaged or ...": ``no weights``.
        option: What the user should change if it cannot be read.
        limit: Bytes that the file may have.

    Raises:
        InputError: If it cannot be read, is too large, or is no safetensors file.
    """
    return parse_tensors(read_bytes(path, option, limit), path, what, option)


def tensor_sizes(path: Path, what: str, option: str, limit: int = MAX_BYTES) -> dict[str, int]:
    """How many numbers each tensor of a safetensors file has, from its header alone.

    Raises:
        InputError: If it cannot be read, is too large, or is no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    with guarded(path, what, option):
        with open(open_regular(path), "rb"):
            size = path.stat().st_size
        if size > limit:
            raise ValueError(f"it has {size} bytes, more than {limit}")
        try:
            with safe_open(path, "np") as file:
                return {name: prod(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
        except SafetensorError as error:
            raise ValueError(str(error)) from error


def parse_tensors(content: bytes, name: str | Path, what: str, option: str) -> "dict[str, Tensor]":
    """Tensors from the bytes of a safetensors file.

    Raises:
        InputError: If these are none.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    with guarded(name, what, option):
        try:
            return load(content)
        # What Rust raises is of no kind that Python knows.
        except SafetensorError as error:
            raise ValueError(str(error)) from error
