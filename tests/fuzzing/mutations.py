"""Ways of damaging a file: at random, and knowing its format. Each is a function of a seeded generator alone."""

import io
import json
import os
import pickle
import random
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]

SPECIALS = ("fifo", "folder", "dangling link", "endless link")
_TEXT = {".json", ".jsonl", ".csv", ".txt", ".yaml", ".claim"}


class Payload:
    """Creates a file when it is unpickled, as an attacker's would do worse."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.sentinel),))


# Bytes


def flip(content: bytes, rng: random.Random) -> bytes:
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 4, 64))):
        if found:
            found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def flip_early(content: bytes, rng: random.Random) -> bytes:
    return flip(content[:200], rng) + content[200:]


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def extend(content: bytes, rng: random.Random) -> bytes:
    return content + rng.randbytes(rng.choice((1, 100, 5000)))


def _part(content: bytes, rng: random.Random) -> tuple[int, int]:
    start, stop = sorted((rng.randrange(len(content) + 1), rng.randrange(len(content) + 1)))
    return start, min(stop, start + rng.choice((1, 10, 1000)))


def duplicate(content: bytes, rng: random.Random) -> bytes:
    start, stop = _part(content, rng)
    return content[:stop] + content[start:stop] * rng.choice((1, 50)) + content[stop:]


def zero(content: bytes, rng: random.Random) -> bytes:
    start, stop = _part(content, rng)
    return content[:start] + bytes(stop - start) + content[stop:]


def fill(content: bytes, rng: random.Random) -> bytes:
    start, stop = _part(content, rng)
    return content[:start] + b"\xff" * (stop - start) + content[stop:]


def swap(content: bytes, rng: random.Random) -> bytes:
    (first, second), size = sorted((rng.randrange(len(content) + 1), rng.randrange(len(content) + 1))), rng.choice((1, 8, 100))
    size = min(size, second - first, len(content) - second)
    one, other = content[first : first + size], content[second : second + size]
    return content[:first] + other + content[first + size : second] + one + content[second + size :]


def empty(content: bytes, rng: random.Random) -> bytes:
    return b""


# Text and JSON

_NUMBERS = (b"-1", b"0", b"99999999999999999999", b"1e308", b"-0.5", b"NaN", b"x", b"9" * 5000, b"1e999", b"4294967296", b"")
_VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 10**6, 2**31, 2**63, 10**30, -(10**30), 0.5, -0.5, 1e-300, 1e308),
    *(float("nan"), float("inf"), "", "x", "x" * 10_000, "../../x", "/dev/zero", "\0", "\x1b[31m", "\ud800", "1", "8/255"),
    *([], {}, [[]], [1], ["x"], {"x": 1}, [None] * 3, list(range(50_000)), [[[[[[]]]]]]),
)
_DEEP = "@deep@"


def digits(content: bytes, rng: random.Random) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?", content))
    if not found:
        return content + rng.choice(_NUMBERS)
    place = rng.choice(found)
    return content[: place.start()] + rng.choice(_NUMBERS) + content[place.end() :]


def lines(content: bytes, rng: random.Random) -> bytes:
    parts = content.split(b"\n")
    rng.shuffle(parts)
    return b"\n".join(parts[: rng.randrange(len(parts) + 1)])


def json_value(content: bytes, rng: random.Random) -> bytes:
    """Another value somewhere, another key, or a key less."""
    value = json.loads(content)
    places: list[tuple[Any, Any]] = []

    def walk(part: Any) -> None:
        for key, item in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
            places.append((part, key))
            walk(item)

    walk(value)
    if not places or rng.random() < 0.05:
        return _dump(rng.choice((*_VALUES, _DEEP)))
    part, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.1:
        del part[key]
    elif kind < 0.2 and isinstance(part, dict):
        part[rng.choice(("x", "", f"{key} ", str(key).upper()))] = part.pop(key)
    elif kind < 0.3 and isinstance(part[key], int | float):
        part[key] = part[key] * rng.choice((-1, 2, 1000, 10**9)) + rng.choice((0, 1))
    else:
        part[key] = rng.choice((*_VALUES, _DEEP))
    return _dump(value)


def _dump(value: Any) -> bytes:
    return json.dumps(value).replace(f'"{_DEEP}"', "[" * 20_000 + "]" * 20_000).encode()


def json_line(content: bytes, rng: random.Random) -> bytes:
    parts = content.splitlines()
    place = rng.randrange(len(parts))
    parts[place] = json_value(parts[place], rng)
    return b"\n".join(parts) + b"\n"


# Arrays

_SHAPES = ("()", "(0,)", "(1,)", "(1000000000000,)", "(4611686018427387904, 4)", "(-1,)", "(3, 3)", "('a',)", "5", "(1.5,)")
_SHAPES += ("(1, 1, 1, 1)", "(2, 0, 4)", f"({', '.join('1' * 40)})")
_DTYPES = ("|u1", "<i8", ">i8", "<f4", "<f8", "|b1", "|O", "<U9", "<c16", "<M8[s]", "[('a', '<i4')]", "<V8", "nonsense", "<f2")


def npy_header(content: bytes, rng: random.Random) -> bytes:
    """Another shape, type or order, with the data as they are or made to fit."""
    (length,) = struct.unpack_from("<H", content, 8)
    header, data = content[10 : 10 + length].decode("latin-1"), content[10 + length :]
    kind = rng.randrange(4)
    if kind == 0:
        header = re.sub(r"'shape': \([^)]*\)", f"'shape': {rng.choice(_SHAPES)}", header)
    elif kind == 1:
        dtype = rng.choice(_DTYPES)
        header = re.sub(r"'descr': '[^']*'", f"'descr': {dtype if dtype[0] == '[' else repr(dtype)}", header)
    elif kind == 2:
        header = header.replace("'fortran_order': False", "'fortran_order': True")
    else:
        # One that its data keep.
        dtype, count = rng.choice((("|u1", 1), ("<i8", 8), ("<f4", 4), ("<f8", 8), ("|b1", 1), (">u2", 2))), rng.randrange(9)
        shape = rng.choice((f"({count},)", f"({count}, 2)", f"(1, {count}, 1, 1)", "()"))
        size = {f"({count},)": count, f"({count}, 2)": 2 * count, "()": 1}.get(shape, count) * dtype[1]
        header, data = f"{{'descr': '{dtype[0]}', 'fortran_order': False, 'shape': {shape}}}\n", rng.randbytes(size)
    encoded = header.encode("latin-1")
    return content[:8] + struct.pack("<H", len(encoded)) + encoded + data


def npz_member(content: bytes, rng: random.Random) -> bytes:
    """One array of an archive changed, the checksums made to fit; or one gone, twice there or called otherwise."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    place, kind = rng.randrange(len(members)), rng.random()
    info, data = members[place]
    if kind < 0.1:
        del members[place]
    elif kind < 0.2:
        members[place][0].filename = rng.choice(("x.npy", "../../x.npy", "/x", "", f"{info.filename} "))
    else:
        change: Mutation = flip
        if data[:6] == b"\x93NUMPY":
            change = rng.choice((npy_header, npy_header, flip, cut, extend, fill))
        elif info.filename.endswith(".json"):
            change = rng.choice((json_value, json_value, digits, cut))
        elif info.filename.endswith(".csv"):
            change = rng.choice((digits, lines, cut, duplicate))
        members[place] = info, change(data, rng)
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as archive:
            for info, data in members:
                fresh = zipfile.ZipInfo(info.filename, (1980, 1, 1, 0, 0, 0))
                fresh.compress_type = info.compress_type
                archive.writestr(fresh, data)
        return buffer.getvalue()


def zip_directory(content: bytes, rng: random.Random) -> bytes:
    """Sizes, places, checksums or methods in an archive's directory that are not so."""
    places = [match.start() for match in re.finditer(b"PK\x01\x02", content)]
    if not places:
        return flip(content, rng)
    found, place = bytearray(content), rng.choice(places)
    # Flags and method; checksum; packed and unpacked size; place of the member.
    offset, size = rng.choice(((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (24, 4), (42, 4)))
    value = rng.choice((0, 1, 9, 12, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF, rng.randrange(1 << 32)))
    found[place + offset : place + offset + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(found)


def safetensors_header(content: bytes, rng: random.Random) -> bytes:
    (length,) = struct.unpack_from("<Q", content)
    header = json_value(content[8 : 8 + length], rng)
    if rng.random() < 0.5:
        return struct.pack("<Q", rng.choice((0, 1, 2**63, 2**64 - 1, length + 1, 10**9))) + content[8:]
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def tensors(content: bytes, rng: random.Random) -> bytes:
    """One tensor of another shape or type, gone or called otherwise, in a file that is sound."""
    import torch
    from safetensors.torch import load, save

    found = load(content)
    name, kind = rng.choice(sorted(found)), rng.random()
    if kind < 0.2:
        del found[name]
    elif kind < 0.4:
        found["x"] = found.pop(name)
    elif kind < 0.7:
        shape = rng.choice(((), (0,), (1,), (3, 3), (1, 1, 1, 1), (2, 0), (1,) * 9))
        found[name] = torch.zeros(shape, dtype=found[name].dtype)
    else:
        found[name] = found[name].to(rng.choice((torch.float64, torch.uint8, torch.int64, torch.bool, torch.bfloat16)))
    return save(found)


def hostile(sentinel: Path) -> Mutation:
    """A program in place of data, in the form that the file has."""

    def change(content: bytes, rng: random.Random) -> bytes:
        payload = pickle.dumps([Payload(sentinel)], rng.choice((0, 2, 4)))
        header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n"
        npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + payload
        if content[:6] == b"\x93NUMPY":
            return npy
        if content[:2] != b"PK":
            return payload
        with io.BytesIO() as buffer:
            with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
                for info in old.infolist():
                    is_code = info.filename.endswith((".npy", "data.pkl"))
                    data = (npy if info.filename.endswith(".npy") else payload) if is_code else old.read(info)
                    new.writestr(zipfile.ZipInfo(info.filename), data)
            return buffer.getvalue()

    return change


def choose(name: str, content: bytes, rng: random.Random, sentinel: Path) -> tuple[str, bytes | None]:
    """A mutation of a file, and what becomes of it; None where it becomes something else than a file.

    Args:
        name: The file's name, whose suffix says what is known of it.
        content: What it holds.
        rng: What the choice depends on.
        sentinel: What a program in the file would make.
    """
    if rng.random() < 0.06:
        return rng.choice(SPECIALS), None
    known: list[Mutation] = [flip, flip_early, cut, extend, duplicate, zero, fill, swap]
    suffix = Path(name).suffix
    if suffix in _TEXT:
        known += [digits] * 4 + [lines] * 2
    known += {".json": [json_value] * 16, ".jsonl": [json_line] * 16, ".npy": [npy_header] * 8}.get(suffix, [])
    known += {".npz": [npz_member] * 8 + [zip_directory] * 4, ".ckpt": [zip_directory] * 6}.get(suffix, [])
    known += [safetensors_header, safetensors_header, tensors, tensors] * 2 if suffix == ".safetensors" else []
    known += [hostile(sentinel)] * 2 if suffix in (".npy", ".npz", ".ckpt", ".pickle", ".safetensors", "") else []
    known += [empty] if rng.random() < 0.3 else []
    mutation = rng.choice(known)
    try:
        return mutation.__name__, mutation(content, rng)
    # What is built on the format needs a file that has it, which not all of that suffix do.
    except (ValueError, KeyError, struct.error):
        return "flip", flip(content, rng)
