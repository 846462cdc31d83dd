"""Leases on pieces of work: files by which processes that know nothing of each other share it out, on many machines."""

import contextlib
import os
import socket
import threading
import time
from pathlib import Path

from poison_and_defend.core.files import create_whole, process_alive
from poison_and_defend.core.reading.files import read_regular

BEAT_SECONDS = 10.0
STALE_SECONDS = 180.0
"""Well above what a network file system may cache a file's time for (60 s with NFS's defaults)."""


class Leases:
    """Files ``NAME.claim`` in a folder, each held by one process that is alive.

    A lease says who is at work and is no lock: where one is taken over too early, a piece is done twice. What is done under
    a lease must therefore be written atomically and come out the same each time.

    A holder touches its files every ten seconds from a thread of its own. A lease lapses at once if its process was on this
    machine and is gone, and otherwise when it has been seen untouched for ``stale`` seconds by the observer's own clock: clocks
    of different machines are never compared.

    Args:
        folder: Where the files lie; it must exist.
        stale: Seconds without a touch after which a holder is taken to be dead.
    """

    def __init__(self, folder: Path, *, stale: float = STALE_SECONDS) -> None:
        self.folder, self.stale = folder, stale
        self._held: set[Path] = set()
        self._seen: dict[Path, tuple[int, float]] = {}
        self._lock = threading.Lock()
        self._beating: threading.Thread | None = None

    def path(self, name: str) -> Path:
        """The file of a lease."""
        return self.folder / f"{name}.claim"

    def claim(self, name: str) -> bool:
        """Take a lease; whether this process holds it now and did not before."""
        path = self.path(name)
        if self._lapsed(path):
            path.unlink(missing_ok=True)
        if not create_whole(path, f"{socket.gethostname()} {os.getpid()}".encode()):
            return False
        with self._lock:
            self._held.add(path)
            self._seen.pop(path, None)
            if self._beating is None:
                self._beating = threading.Thread(target=self._beat, daemon=True, name="leases")
                self._beating.start()
        return True

    def release(self, name: str) -> None:
        """Give a lease back."""
        path = self.path(name)
        with self._lock:
            self._held.discard(path)
        path.unlink(missing_ok=True)

    def release_all(self) -> None:
        """Give back whatever is held."""
        for path in list(self._held):
            with contextlib.suppress(OSError):
                self.release(path.name.removesuffix(".claim"))

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            with self._lock:
                held = list(self._held)
                if not held:
                    self._beating = None
                    return
            for path in held:
                # It may have been taken over, or the disk be gone for a while.
                with contextlib.suppress(OSError):
                    os.utime(path)

    def _lapsed(self, path: Path) -> bool:
        try:
            touched, words = path.stat().st_mtime_ns, read_regular(path, 1 << 12).decode().split()
        except (OSError, ValueError):
            return False
        if len(words) == 2 and words[0] == socket.gethostname() and not _alive(words[1]):
            return True
        known = self._seen.get(path)
        if known is None or known[0] != touched:
            self._seen[path] = (touched, time.monotonic())
            return False
        # One that says nothing was left by a kill where files cannot be created whole.
        return time.monotonic() - known[1] > (self.stale if words else min(self.stale, BEAT_SECONDS))


def _alive(process: str) -> bool:
    try:
        return process_alive(int(process))
    except ValueError:
        return False
