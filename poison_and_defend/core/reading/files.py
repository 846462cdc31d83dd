"""Reading files that anybody may have written: bounded in size and depth, and any damage is one sentence."""

import contextlib
import errno
import json
import lzma
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from poison_and_defend.core.errors import InputError

MAX_TEXT = 1 << 28
"""Bytes of a text or JSON file: manifests of a million images that could not be read have a tenth of it."""

MAX_DEPTH = 64
"""Levels of a JSON value; ours have six. Python's own limit, a thousand, may be used up by whoever looks at the value."""

_MALFORMED = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,  # of numpy, which takes a damaged header for one of Python 2
)


@contextlib.contextmanager
def guarded(name: str | Path, what: str, option: str, *, absent: bool = False) -> Iterator[None]:
    """Turn whatever a damaged file makes its parser raise into one sentence.

    Args:
        name: The file's name, for the sentence.
        what: What it should be, as in "is damaged or ... ": ``no certificate``.
        option: What the user should change, such as ``--run``.
        absent: Whether a file that is not there is no damage: `FileNotFoundError` then passes as it is.

    Raises:
        InputError: For anything that reading or parsing raises; one that is raised within passes as it is.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        if absent:
            raise
        raise InputError(f"cannot read {plain(name)}: {error.strerror or plain(str(error))} ({option})") from error
    except OSError as error:
        raise InputError(f"cannot read {plain(name)}: {error.strerror or plain(str(error))} ({option})") from error
    except _MALFORMED as error:
        reason = plain(" ".join(str(error).split()))[:200] or type(error).__name__
        raise InputError(f"{plain(name)} is damaged or {what}: {reason} ({option})") from error


def plain(text: str | Path) -> str:
    """Text that a terminal shows as it is: control characters and broken surrogates are written out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def brief(value: Any, most: int = 80) -> str:
    """What a file says, for a sentence: on one line of at most so many characters."""
    text = plain(str(value))
    return text if len(text) <= most else f"{text[: most - 3]}..."


def open_regular(path: str | Path, *, follow: bool = True) -> int:
    """A descriptor of a regular file, at once: a FIFO would wait for a writer, and a device has no end.

    Args:
        path: The file.
        follow: Whether its last part may be a symbolic link.

    Raises:
        OSError: If it cannot be opened or is something else.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, "its name cannot be that of a file", str(path)) from error
    except OSError as error:
        # A socket says that the device has gone, which of a file would mean that the disk has.
        if error.errno == errno.ENXIO and not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - may be text
            raise OSError(errno.EINVAL, "it is no regular file", str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return descriptor


def read_regular(path: str | Path, limit: int, *, follow: bool = True) -> bytes:
    """The whole of a regular file of at most ``limit`` bytes.

    Raises:
        OSError: If it cannot be read, is something else or is larger.
    """
    descriptor = open_regular(path, follow=follow)
    with open(descriptor, "rb", buffering=0) as file:
        size = os.fstat(descriptor).st_size
        # What grows while it is read is no reason to read on.
        content = file.readall() if size <= limit else b""
    if size > limit or len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", str(path))
    return content


def read_bytes(path: Path, option: str, limit: int = MAX_TEXT) -> bytes:
    """Like :func:`read_regular`, but for users.

    Raises:
        InputError: If it cannot be read, is no regular file or larger than ``limit`` bytes.
    """
    with guarded(path, "no file", option):
        return read_regular(path, limit)


def read_text(path: Path, what: str, option: str, limit: int = MAX_TEXT) -> str:
    """The whole of a text file in UTF-8.

    Args:
        path: The file.
        what: What it should be, as in "is damaged or ...": ``no list of results``.
        option: What the user should change if it cannot be read.
        limit: Bytes that it may have.

    Raises:
        InputError: If it cannot be read, is too large or no text.
    """
    with guarded(path, what, option):
        return read_regular(path, limit).decode()


def read_json(path: Path, what: str, option: str, limit: int = MAX_TEXT) -> Any:
    """The value of a JSON file.

    Args:
        path: The file.
        what: What it should be, as in "is damaged or ...": ``no manifest``.
        option: What the user should change if it cannot be read.
        limit: Bytes that it may have.

    Raises:
        InputError: If it cannot be read, is too large or too deep, or is not JSON.
        FileNotFoundError: If there is none, which is often no error.
    """
    try:
        content = read_regular(path, limit)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {plain(path)}: {error.strerror} ({option})") from error
    return parse_json(content, path, what, option)


def parse_json(content: bytes | str, name: str | Path, what: str, option: str) -> Any:
    """The value of a JSON text of at most ``MAX_DEPTH`` levels.

    Raises:
        InputError: If it is deeper, or not JSON.
    """
    with guarded(name, what, option):
        value = json.loads(content)
        level = [value]
        for _ in range(MAX_DEPTH):
            level = [
                item
                for part in level
                if isinstance(part, dict | list)
                for item in (part.values() if isinstance(part, dict) else part)
                if isinstance(item, dict | list)
            ]
            if not level:
                return value
        raise ValueError(f"it nests deeper than {MAX_DEPTH} levels")


def check_fields(value: Any, fields: Mapping[str, type | tuple[type, ...]], name: str | Path, what: str, option: str) -> Any:
    """Refuse a value of a file that is no JSON object with these fields of these types; returns it.

    Args:
        value: What was read.
        fields: Type of each field that must be there; ``int`` does not include truth values, ``float`` includes integers.
        name: The file's name, for the sentence.
        what: What it should be, as in "is damaged or ...": ``no manifest``.
        option: What the user should change.

    Raises:
        InputError: Naming the first field that is missing or of another type.
    """
    with guarded(name, what, option):
        if not isinstance(value, dict):
            raise ValueError(f"it is no JSON object but of type {type(value).__name__}")
        for key, kind in fields.items():
            if key not in value:
                raise ValueError(f"it has no field {key}")
            kinds = kind if isinstance(kind, tuple) else (kind,)
            allowed = (*kinds, int) if float in kinds else kinds
            if not isinstance(value[key], allowed) or (isinstance(value[key], bool) and bool not in kinds):
                raise ValueError(f"its {key} is of type {type(value[key]).__name__}")
    return value
