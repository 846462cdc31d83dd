"""The ledger of a set in the making: which blocks of rows are done, who is at work on which, and what they are made with."""

import contextlib
import io
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from errors import InputError
from files import write_bytes, write_json
from leases import Leases
from storage.hashing import checksum_file
from storage.records import HEADER, RowRecord, parse_records, to_lines

_PLAN, _BLOCKS, _CLAIMS, _ROWS = "plan.json", "blocks", "claims", "rows.csv"
_OLD_SECONDS = 3600


class BlockStore:
    """A working folder that processes which know nothing of each other share, on any number of machines.

    Rows are cut into blocks by their numbers. Whoever holds a block's lease makes its outputs, each written atomically, and
    then its record; a block without a record is nobody's or somebody's work in progress, and doing it twice does no harm, as
    the bytes are the same. Nothing waits for anybody: no process group, no barrier.

    Args:
        working: The folder. It comes into being at once, with :meth:`create`, and goes with :meth:`finish`.
        option: What the user should change if it cannot be used.
    """

    def __init__(self, working: Path, option: str) -> None:
        self.working, self.option = working, option
        self._leases: Leases | None = None
        self._todo: list[int] = []
        self._plan: dict[str, Any] | None = None

    # Plan

    def exists(self) -> bool:
        """Whether somebody began."""
        return (self.working / _PLAN).exists()

    def create(self, prepare: Callable[[Path], dict[str, Any]]) -> None:
        """Begin, unless somebody else does at the same time, whose work is as good.

        Args:
            prepare: Puts what else belongs there into the folder it is given and returns the plan: ``settings``, what the
                outputs depend on; ``count`` of rows; ``block``, rows in a block.

        Raises:
            InputError: If the folder cannot be written.
        """
        partial = self.working.with_name(f"{self.working.name}.{secrets.token_hex(4)}.partial")
        try:
            for name in (_BLOCKS, _CLAIMS):
                (partial / name).mkdir(parents=True)
            write_json(partial / _PLAN, prepare(partial))
            os.rename(partial, self.working)
        except OSError as error:
            if not self.exists():
                raise InputError(f"cannot write to {self.working.parent}: {error.strerror} ({self.option})") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    @property
    def plan(self) -> dict[str, Any]:
        """What was begun: ``settings``, ``block`` and ``count``.

        Raises:
            InputError: If it cannot be read.
        """
        if self._plan is None:
            try:
                plan: dict[str, Any] = json.loads((self.working / _PLAN).read_text())
                plan["settings"], plan["block"], plan["count"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise InputError(f"{self.working} is damaged: remove it and begin again ({self.option})") from error
            self._plan = plan
        return self._plan

    @property
    def count(self) -> int:
        """Rows of the set."""
        return int(self.plan["count"])

    def rows(self, block: int) -> range:
        """The rows of a block."""
        size = int(self.plan["block"])
        return range(block * size, min((block + 1) * size, self.count))

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.count // int(self.plan["block"]))

    # Work

    def claim(self) -> int | None:
        """Take the lease of a block that is not done, or None if all are done or taken."""
        if not self._todo:
            done = self._done()
            # Somewhere else each time, so that processes seldom meet.
            start = secrets.randbelow(max(1, self.blocks))
            self._todo = [b for b in (*range(start, self.blocks), *range(start)) if b not in done][::-1]
        while self._todo:
            block = self._todo.pop()
            if self._record(block).exists():
                continue
            try:
                claimed = self._own().claim(str(block))
            except FileNotFoundError:
                # Somebody finished meanwhile.
                return None
            if claimed:
                if not self._record(block).exists():
                    return block
                self._own().release(str(block))
        return None

    def record(self, block: int, records: list[RowRecord]) -> None:
        """Mark a block done, all its outputs being on disk, and give its lease back."""
        # The folder is gone if another did the same block, and the rest.
        with contextlib.suppress(FileNotFoundError):
            write_bytes(self._record(block), to_lines(records).encode())
            self._own().release(str(block))

    def release_all(self) -> None:
        """Give back whatever this process holds, for others to take at once."""
        if self._leases is not None:
            self._leases.release_all()

    def rows_done(self) -> int:
        """Rows whose outputs are there, by whomever; all if the folder has gone, which is how others finish."""
        return sum(len(self.rows(block)) for block in self._done())

    # End

    def finish(self, publish: Callable[[Path, dict[str, Any]], None]) -> bool:
        """Put the records together and let ``publish`` make the set complete; then the working folder goes.

        Args:
            publish: Is given ``rows.csv`` and the manifest, which it must write last and atomically.

        Returns:
            Whether it was done; False if a row is missing, or another process is at it.
        """
        try:
            if len(self._done()) < self.blocks or not self._own().claim("finish"):
                return False
        except FileNotFoundError:
            return False
        rows = self.working / _ROWS
        manifest = self._write_rows(rows)
        publish(rows, manifest)
        self.remove()
        return True

    def remove(self) -> None:
        """Remove the working folder, all at once for whoever looks."""
        away = self.working.with_name(f"{self.working.name}.{secrets.token_hex(4)}.partial")
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.working, away)
        shutil.rmtree(away, ignore_errors=True)
        # Those of processes that were killed while they began; what is younger may be another's that begins just now.
        for left in self.working.parent.glob(f"{self.working.name}.*.partial"):
            with contextlib.suppress(OSError):
                if left.stat().st_mtime < time.time() - _OLD_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)

    def _write_rows(self, path: Path) -> dict[str, Any]:
        counts = {"sanitized": 0, "copied": 0, "skipped": 0}
        failed: list[dict[str, Any]] = []
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(HEADER)
            for block in range(self.blocks):
                text = self._record(block).read_text(encoding="utf-8")
                file.write(text)
                for record in parse_records(io.StringIO(HEADER + text, newline=""), str(path)):
                    counts[record.status] += 1
                    if record.status != "sanitized":
                        failed.append({"row": record.row, "file": record.file, "status": record.status, "reason": record.note})
            file.flush()
            os.fsync(file.fileno())
        return {
            "settings": self.plan["settings"],
            "count": self.count,
            **counts,
            "not_sanitized": failed,
            "rows": checksum_file(path),
        }

    def _own(self) -> Leases:
        if self._leases is None:
            self._leases = Leases(self.working / _CLAIMS)
        return self._leases

    def _record(self, block: int) -> Path:
        return self.working / _BLOCKS / f"{block:06d}.csv"

    def _done(self) -> set[int]:
        try:
            return set(self._listed())
        except FileNotFoundError:
            return set(range(self.blocks))

    def _listed(self) -> Iterator[int]:
        with os.scandir(self.working / _BLOCKS) as entries:
            for entry in entries:
                stem, _, suffix = entry.name.partition(".")
                if suffix == "csv" and stem.isdigit():
                    yield int(stem)


def compare_settings(found: dict[str, Any], wanted: dict[str, Any], place: str, option: str) -> None:
    """Refuse what was made with other settings; a wanted None takes what was found.

    Raises:
        InputError: Naming the first setting that differs.
    """
    for key in sorted(set(found) | set(wanted)):
        ours, theirs = wanted.get(key), found.get(key)
        if ours != theirs and not (key in wanted and ours is None):
            raise InputError(
                f"{place} was made with {key} = {theirs}, now it is {ours}: choose another, or remove it ({option})"
            )
