"""Writing files so that a kill at any moment leaves the old one or the new one, never half of one."""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import secrets
import socket
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.core.errors import InputError

_PARTIAL = re.compile(r"\..*\.([0-9a-f]{6})-(\d+)-[0-9a-f]{8}\.partial", re.DOTALL)
_OLD_SECONDS = 3600
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a full disk."""

ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip file can say: equal contents then give equal bytes."""


def partial_path(path: Path) -> Path:
    """A hidden sibling to be renamed over ``path``, whose name says which process it belongs to."""
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.partial")


def beside(place: Path, ending: str) -> Path:
    """A hidden file beside an output, which no data set of images takes for a class: ``.NAME.ENDING``."""
    raw = os.fsencode(place.name)
    # A name may have no room for more.
    return place.with_name(f".{place.name if len(raw) <= 200 else hashlib.sha256(raw).hexdigest()[:32]}.{ending}")


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]


def sweep_partials(folder: Path) -> None:
    """Remove what processes left below a folder that died while they wrote: those of this machine, or of an hour ago."""
    for place, _, names in os.walk(folder):
        for name in names:
            found = _PARTIAL.fullmatch(name)
            if found is None:
                continue
            path = Path(place, name)
            with contextlib.suppress(OSError):
                dead = found[1] == _host() and not process_alive(int(found[2]))
                if dead or path.stat().st_mtime < time.time() - _OLD_SECONDS:
                    path.unlink()


def process_alive(number: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def write_bytes(path: Path, content: bytes) -> None:
    """Write to a sibling, then rename over ``path``."""
    partial = partial_path(path)
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def create_whole(path: Path, content: bytes, mode: int = 0o666) -> bool:
    """Create a file with its content at once, so that a kill leaves no empty one; False if there is one already.

    Args:
        path: The file.
        content: What it holds.
        mode: Its permissions, less those that the user's mask takes away.
    """
    partial = partial_path(path)
    try:
        # A full disk has room for a name but not for what it should say.
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, path)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            # No hard links here: killed at the wrong moment, this one leaves an empty file.
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
    except FileExistsError:
        return False
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return True


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys in the order given."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def digest(value: Any) -> str:
    """Sixteen hex digits that identify a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def make_folder(path: Path, option: str) -> None:
    """Create a folder and prove that it can be written to.

    Raises:
        InputError: If it cannot; ``option`` names what the user should change.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{secrets.token_hex(4)}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write to {path}: {error.strerror} ({option})") from error


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an ``.npy`` file atomically."""
    with io.BytesIO() as buffer:
        np.save(buffer, array, allow_pickle=False)
        write_bytes(path, buffer.getvalue())


def save_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write a compressed ``.npz`` file atomically; equal arrays give equal bytes, which numpy's own writer does not."""
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, array in arrays.items():
                info = zipfile.ZipInfo(f"{name}.npy", ZIP_TIME)
                info.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(info, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
        write_bytes(path, buffer.getvalue())


def create_mapped(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """A new ``.npy`` file of bytes, mapped to be written, whose room on the disk is reserved.

    Raises:
        OSError: If there is no room: a page of a map that finds none would kill the process instead.
    """
    array: np.memmap[Any, np.dtype[np.uint8]] = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
