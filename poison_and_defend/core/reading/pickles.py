"""Reading other people's pickles without running what is in them.

A pickle is a program for a small stack machine, and Python's own machine imports and calls whatever the program names.
The one here imports nothing: a global is a name in a table of functions of this module, which check their arguments.
"""

import io
import itertools
import math
import pickletools
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import read_regular

_MAX_BYTES = 4 << 30
_MAX_ITEMS = 10_000_000  # A list doubled thirty times over is a short pickle; this bounds what it is written out to.
_MAX_DEPTH = 32
_MODES = {"L": 1, "RGB": 3}
_NUMERIC = re.compile(r"b1|[iu][1248]|f[248]|c(8|16)")
_PICTURE = re.compile(r"PIL\.(Image\.Image|\w+ImagePlugin\.\w+ImageFile)", re.ASCII)
_TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save's older format: its zip files could be bombs
_SCALARS = (str, bytes, int, float, bool, type(None))
_INTEGERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4")
_TEXTS = ("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8")
_ARGUMENT = {*_INTEGERS, *_TEXTS, "FLOAT", "BINFLOAT"}
_CONSTANT = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError, MemoryError, RuntimeError)


class _Refused(Exception):
    """What is wrong, as the end of a sentence that starts with the file's name."""


@dataclass(frozen=True)
class _Global:
    """A name that the pickle would have Python import."""

    name: str


@dataclass(eq=False)
class _StandIn:
    """An array, image or dtype, between the opcode that makes it and the opcode that fills it."""

    fill: Callable[[Any], Any]
    value: Any = None


def read_pickle(path: Path, option: str) -> Any:
    """Read lists, tuples, dicts, numbers, strings, bytes, numeric numpy arrays and scalars, and PIL images; run nothing.

    Images come back as plain ``PIL.Image.Image`` of mode L or RGB, without their metadata; arrays in native byte order; a
    CPU tensor as the array of its values; a bytearray as bytes. Lists and dicts form a finite tree: what two of them share
    is copied, what contains itself is refused.

    Args:
        path: A pickle of protocol 0 to 5, written by Python 3.
        option: What the user should change if the file is bad.

    Raises:
        InputError: If the file cannot be read, is too large, truncated or no pickle, or asks for anything else.
    """
    try:
        status = path.stat()
        _check(stat.S_ISREG(status.st_mode), "is not a file")
        _check(status.st_size <= _MAX_BYTES, f"has {status.st_size} bytes, more than the {_MAX_BYTES} that a pickle may have")
        content = read_regular(path, _MAX_BYTES)
        machine = _Machine(len(content))
        for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            _check(count < _MAX_ITEMS, f"has more than {_MAX_ITEMS} pickle opcodes")
            machine.step(opcode.name, argument)
        return _copy(machine.stack.pop(), itertools.count())
    except OSError as error:
        raise InputError(f"cannot read the pickle {path}: {error.strerror} ({option})") from error
    except _Refused as error:
        raise InputError(f"{path} {error} ({option})") from error
    except _MALFORMED as error:
        raise InputError(f"{path} is truncated or not a pickle as Python 3 writes them ({option})") from error


def _check(condition: object, otherwise: str) -> None:
    if not condition:
        raise _Refused(otherwise)


class _Machine:
    """The stack machine, with the opcodes that Python 3 writes for the data allowed here."""

    def __init__(self, size: int) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        # Two conversions to bytes and two to values are the most that one text goes through. A memo could feed
        # the same megabyte to a million of them.
        self.allowance = 4 * size

    def step(self, name: str, argument: Any) -> None:
        """Do one opcode."""
        stack = self.stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _ if name in _ARGUMENT:
                stack.append(argument)
            case _ if name in _CONSTANT:
                stack.append(_CONSTANT[name])
            case "BYTEARRAY8":
                stack.append(bytes(argument))
            case "EMPTY_LIST" | "EMPTY_DICT":
                stack.append([] if name == "EMPTY_LIST" else {})
            case "MARK":
                self.below.append(stack)
                self.stack = []
            case "LIST" | "TUPLE" | "DICT":
                items = self._since_mark()
                self.stack.append({"LIST": items, "TUPLE": tuple(items), "DICT": {}}[name])
                if name == "DICT":
                    self._set(items)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple([stack.pop() for _ in range(int(name[-1]))][::-1]))
            case "APPEND" | "APPENDS":
                items = [stack.pop()] if name == "APPEND" else self._since_mark()
                _check(type(self.stack[-1]) is list, "appends to something that is not a list")
                self.stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                self._set([stack.pop(), stack.pop()][::-1] if name == "SETITEM" else self._since_mark())
            case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                self.memo[len(self.memo) if name == "MEMOIZE" else argument] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "GLOBAL":
                stack.append(_lookup(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(_lookup(module, attribute))
            case "NEWOBJ":
                stack.append(_blank_picture(stack.pop(-2), *stack.pop()))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                _check(type(arguments) is tuple and type(function) is _Global, "calls something that is not a function")
                _check(function.name in _CALLS, f"calls {function.name}, which is not a function")
                self._spend(arguments)
                stack.append(_CALLS[function.name](*arguments))
            case "BUILD":
                state, made = stack.pop(), stack[-1]
                _check(type(made) is _StandIn, "sets the state of something that is neither an array nor an image")
                _check(type(state) in (list, tuple) and len(state) >= 5, "has an array or an image whose state is malformed")
                self._spend(state)
                made.value = made.fill(state)
            case _:
                raise _Refused(f"uses the pickle opcode {name}, which is refused: no list, number, array or image needs it")

    def _since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def _set(self, items: list[Any]) -> None:
        _check(type(self.stack[-1]) is dict, "sets an item of something that is not a dict")
        # Hashing a tuple of a million levels would overflow the C stack.
        _check(all(type(key) in _SCALARS for key in items[::2]), "has a dict whose key is neither text nor a number")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _spend(self, values: Any) -> None:
        self.allowance -= sum(len(value) for value in values if type(value) in (str, bytes))
        _check(self.allowance >= 0, "makes more arrays and images than it has bytes for")


def _copy(value: Any, counter: Iterator[int], depth: int = 0) -> Any:
    """What the machine left, without any stand-in, shared list or cycle."""
    _check(next(counter) < _MAX_ITEMS, f"holds more than {_MAX_ITEMS} items once shared ones are written out")
    _check(depth <= _MAX_DEPTH, f"nests deeper than {_MAX_DEPTH} levels or contains itself")
    if type(value) is _StandIn:
        value = value.value
        _check(type(value) in (np.ndarray, Image.Image), "has an array or an image without content")
    if type(value) is list or type(value) is tuple:
        return type(value)([_copy(item, counter, depth + 1) for item in value])
    if type(value) is dict:
        return {key: _copy(item, counter, depth + 1) for key, item in value.items()}
    _check(type(value) is not int or value.bit_length() <= 64, "holds an integer of more than 64 bits")
    known = type(value) in (*_SCALARS, np.ndarray, Image.Image) or isinstance(value, np.generic)
    _check(known, "holds a name or a storage instead of data")
    return value


def _lookup(module: Any, attribute: Any) -> _Global:
    name = f"{module}.{attribute}" if type(module) is type(attribute) is str else "a name that is not text"
    known = name in _CALLS or name in _CLASSES or _PICTURE.fullmatch(name)
    shown = ascii(name)[1:-1][:100]  # neither a terminal's escape codes nor a megabyte
    _check(known, f"asks for {shown}, which is refused: only lists, numbers, arrays and images are read from a pickle")
    return _Global(name)


def _latin1(text: Any, encoding: Any) -> bytes:
    _check(type(text) is str and encoding in ("latin1", "latin-1"), "has bytes in another encoding than Python writes")
    return bytes(text, "latin-1")


def _dtype(name: Any, align: Any, copy: Any) -> _StandIn:
    _check(type(name) is str, "has an array whose dtype has no name")
    _check(_NUMERIC.fullmatch(name), f"has an array of dtype {ascii(name)[:40]}, which is not a number")

    def fill(state: Any) -> Any:
        plain = state[1] in ("<", ">", "|", "=") and state[2] is state[3] is state[4] is None
        _check(plain, "has an array whose dtype is not a plain number")
        return np.dtype(name).newbyteorder(state[1])

    return _StandIn(fill, np.dtype(name))


def _array(raw: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> Any:
    _check(type(dtype) is _StandIn and isinstance(dtype.value, np.dtype), "has an array without a dtype")
    size = _product(shape) * dtype.value.itemsize
    _check(type(raw) is bytes and len(raw) == size, "has an array of another size than its data")
    _check(order in ("C", "F", "K"), "has an array in an unknown order")
    stored: Any = np.ndarray(shape, dtype.value, raw, order="F" if order == "F" else "C")
    values = stored.astype(dtype.value.newbyteorder("="))  # a copy, which may be written to
    return values.transpose(axes) if order == "K" else values


def _product(sizes: Any) -> int:
    valid = type(sizes) is tuple and len(sizes) <= 32 and all(type(size) is int and 0 <= size < 1 << 62 for size in sizes)
    _check(valid, "has an array or an image whose shape is malformed")
    return math.prod(sizes)


def _blank_array(kind: Any, shape: Any, code: Any) -> _StandIn:
    _check(kind == _Global("numpy.ndarray"), "has an array that is not a plain numpy array")
    return _StandIn(lambda state: _array(state[4], state[2], state[1], "F" if state[3] else "C"))


def _blank_picture(kind: Any, base: Any = None, state: Any = None) -> _StandIn:
    _check(type(kind) is _Global and _PICTURE.fullmatch(kind.name), "makes an object that is not an image")
    return _StandIn(_picture)


def _picture(state: Any) -> Image.Image:
    mode, size, data = state[1], state[2], state[4]
    _check(type(mode) is str, "has an image without a mode")
    _check(mode in _MODES, f"has an image of mode {ascii(mode)[:20]}, not L or RGB")
    fits = _product(size) > 0 and len(size) == 2 and type(data) is bytes and len(data) == _product(size) * _MODES[mode]
    _check(fits, "has an image of another size than its data")
    return Image.frombytes(mode, size, data)


def _storage(raw: Any) -> Any:
    _check(type(raw) is bytes and raw.startswith(_TORCH_LEGACY), "has a tensor that torch did not write")
    # Within are five pickles and the values. torch runs no foreign code, but could be asked for a bytearray of any size.
    stream = io.BytesIO(raw)
    names = {opcode.name for _ in range(5) for opcode, _, _ in pickletools.genops(stream)}
    _check(names.isdisjoint(("REDUCE", "NEWOBJ", "BUILD")), "has a tensor that is more than its values")
    try:
        return torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except Exception as error:  # which ones, torch does not say
        raise _Refused("has a tensor that torch cannot read") from error


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, metadata: Any = None) -> Any:
    _check(isinstance(storage, torch.storage.TypedStorage) and hooks == {}, "has a tensor that is more than its values")
    _product((offset, *stride))
    flat: Any = torch.empty(0, dtype=storage.dtype).set_(storage)
    # In an expanded dimension, of stride 0, a few bytes would become any number of elements.
    _check(_product(size) <= len(flat), "has a tensor of another size than its data")
    return flat.as_strided(size, stride, offset).numpy()


# Python writes Python 2's names at protocols 0 to 2, and numpy renamed numpy.core.
_CLASSES = {"numpy.ndarray", "builtins.object", "__builtin__.object"}
_CALLS: dict[str, Callable[..., Any]] = {
    "_codecs.encode": _latin1,
    **dict.fromkeys(["builtins.bytes", "__builtin__.bytes"], lambda: b""),
    "collections.OrderedDict": lambda: {},
    **dict.fromkeys(["copyreg._reconstructor", "copy_reg._reconstructor"], _blank_picture),
    "numpy.dtype": _dtype,
    **dict.fromkeys([f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")], _blank_array),
    **dict.fromkeys(
        [f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")], lambda dtype, raw: _array(raw, dtype, (), "C")[()]
    ),
    **dict.fromkeys([f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")], _array),
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch.storage._load_from_bytes": _storage,
}
