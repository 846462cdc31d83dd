"""Pixels in one memory-mapped file that is whole or not there."""

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import NO_ROOM, create_mapped
from poison_and_defend.core.reading.arrays import read_array

_WHAT, _OPTION = "no file of sanitized pixels", "folder"
_BLOCK = 1 << 24


class PixelFile:
    """A flat uint8 ``.npy`` file whose last 32 bytes are the SHA-256 of those before, so that damage is seen.

    Args:
        path: The file; its name must say all that its content depends on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def read_or_make(self, size: int, fill: Callable[[NDArray[np.uint8]], None]) -> NDArray[np.uint8]:
        """Open the file, made anew first if it is missing, damaged or of another size.

        Args:
            size: Number of pixels.
            fill: Writes all pixels of the ``(size,)`` array that it is given.

        Returns:
            ``(size,)`` uint8, read-only.

        Raises:
            InputError: If there is no room for it on the disk, or something else is in its place.
        """
        if not self._is_whole(size):
            self._make(size, fill)
        return self.open()

    def open(self) -> NDArray[np.uint8]:
        """Map the pixels, read-only.

        Raises:
            InputError: If the file is gone or no longer what it was.
        """
        array: NDArray[np.uint8] = read_array(self.path, _WHAT, _OPTION, dtype=np.uint8, shape=(None,))
        array.flags.writeable = False
        return array[:-32]

    def _is_whole(self, size: int) -> bool:
        try:
            array = read_array(self.path, _WHAT, _OPTION, dtype=np.uint8, shape=(size + 32,))
        except InputError:
            return False
        return bytes(array[-32:]) == _checksum(array[:-32])

    def _make(self, size: int, fill: Callable[[NDArray[np.uint8]], None]) -> None:
        # Written in place of its own under another name: a set may be larger than memory, and two processes may do this.
        partial = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.partial")
        try:
            array = create_mapped(partial, (size + 32,))
            fill(array[:-32])
            array[-32:] = np.frombuffer(_checksum(array[:-32]), np.uint8)
            array.flush()
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
            os.replace(partial, self.path)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise InputError(f"cannot write {self.path}: {error.strerror} ({_OPTION})") from error
            raise InputError(
                f"there is no room left on the disk for {self.path}, which needs {size / 2**20:.0f} MiB ({_OPTION})"
            ) from error
        finally:
            partial.unlink(missing_ok=True)


def _checksum(pixels: NDArray[np.uint8]) -> bytes:
    digest = hashlib.sha256()
    for start in range(0, len(pixels), _BLOCK):
        digest.update(pixels[start : start + _BLOCK].tobytes())
    return digest.digest()
