"""The ledger of a set in the making: which blocks of rows are done, who is at work on which, and what they are made with."""

import contextlib
import errno
import glob
import io
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import NO_ROOM, write_bytes, write_json
from poison_and_defend.core.hashing import checksum_file
from poison_and_defend.core.processes.leases import Leases
from poison_and_defend.core.reading.files import MAX_TEXT, brief, check_fields, guarded, plain, read_json, read_regular
from poison_and_defend.storage.records import HEADER, RowRecord, parse_records, to_lines

_PLAN, _BLOCKS, _CLAIMS, _ROWS = "plan.json", "blocks", "claims", "rows.csv"
_MOST_ROWS = 1 << 32  # What keys noise has 32 bits.


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
                outputs depend on; ``count`` of rows; ``block``, rows in a block; ``not_taken``, files that are no images.

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
            if error.errno in NO_ROOM:
                raise InputError(
                    f"there is no room left on the disk for {self.working}: nothing is begun yet ({self.option})"
                ) from error
            # Somebody else was faster, and may even have finished, which removes what others were about to begin.
            faster = self.exists() or not partial.exists() or error.errno in (errno.ENOTEMPTY, errno.EEXIST)
            if not faster or not self.working.parent.is_dir():
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
            path, what = self.working / _PLAN, "no plan of a set in the making; remove its folder and begin again"
            try:
                plan = read_json(path, what, self.option)
            except FileNotFoundError as error:
                raise InputError(f"{self.working} is damaged: remove it and begin again ({self.option})") from error
            check_fields(plan, {"settings": dict, "block": int, "count": int}, path, what, self.option)
            with guarded(path, what, self.option):
                if not (plan["block"] > 0 and 0 <= plan["count"] <= _MOST_ROWS):
                    raise ValueError(f"it cuts {plan['count']} images into blocks of {plan['block']}")
            self._plan = plan
        return self._plan

    def missing(self, error: FileNotFoundError) -> InputError:
        """What to say of a file that is not there although nobody has finished."""
        name = plain(error.filename or self.working)
        return InputError(f"{plain(self.working)} is damaged: {name} is missing; remove it and begin again ({self.option})")

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
            try:
                done = set(self._listed())
            except FileNotFoundError:
                return None
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
        try:
            return sum(len(self.rows(block)) for block in self._listed())
        except FileNotFoundError:
            return self.count

    # End

    def finish(self, publish: Callable[[Path, dict[str, Any]], None]) -> bool:
        """Put the records together and let ``publish`` make the set complete; then the working folder goes.

        A record that is not whole makes its block one that is not done.

        Args:
            publish: Is given ``rows.csv`` and the manifest, which it must write last and atomically.

        Returns:
            Whether it was done; False if a row is missing, or another process is at it.
        """
        try:
            if len(set(self._listed())) < self.blocks or not self._own().claim("finish"):
                return False
            rows = self.working / _ROWS
            manifest = self._write_rows(rows)
            if manifest is None:
                self._own().release("finish")
                return False
            publish(rows, manifest)
        except FileNotFoundError:
            # Another process took this one for dead and was faster.
            if self.exists():
                raise
            return False
        self.remove()
        return True

    def remove(self) -> None:
        """Remove the working folder, all at once for whoever looks, and those of processes that were killed as they began."""
        away = self.working.with_name(f"{self.working.name}.{secrets.token_hex(4)}.partial")
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.working, away)
        self._sweep()

    def _sweep(self) -> None:
        for left in self.working.parent.glob(f"{glob.escape(self.working.name)}.*.partial"):
            shutil.rmtree(left, ignore_errors=True)

    def _write_rows(self, path: Path) -> dict[str, Any] | None:
        """Write ``rows.csv``; the manifest, or None if a record is not whole, which is then removed."""
        counts = {"sanitized": 0, "copied": 0, "skipped": 0}
        failed: list[dict[str, Any]] = []
        whole = True
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(HEADER)
            for block in range(self.blocks):
                records = self.read_block(block)
                if records is None:
                    whole = False
                    self._record(block).unlink(missing_ok=True)
                    continue
                file.write(to_lines(records))
                for record in records:
                    counts[record.status] += 1
                    if record.status != "sanitized":
                        failed.append({"row": record.row, "file": record.file, "status": record.status, "reason": record.note})
            file.flush()
            os.fsync(file.fileno())
        if not whole:
            return None
        return {
            "settings": self.plan["settings"],
            "count": self.count,
            **counts,
            "not_sanitized": failed,
            "not_taken": self.plan.get("not_taken", []),
            "lost_classes": [],
            "rows": checksum_file(path),
        }

    def read_block(self, block: int) -> list[RowRecord] | None:
        """The records of a block that is done; None if one is missing or damaged."""
        try:
            text = read_regular(self._record(block), MAX_TEXT).decode()
            records = list(parse_records(io.StringIO(HEADER + text, newline=""), str(self._record(block))))
        except FileNotFoundError:
            raise
        except (OSError, UnicodeDecodeError, InputError):
            return None
        return records if [record.row for record in records] == list(self.rows(block)) else None

    def done_records(self) -> Iterator[RowRecord]:
        """The records of all blocks that are done."""
        for block in sorted(self._listed()):
            with contextlib.suppress(FileNotFoundError):
                yield from self.read_block(block) or ()

    def is_recorded(self, block: int) -> bool:
        """Whether a block is done, by whomever."""
        return self._record(block).exists()

    def _own(self) -> Leases:
        if self._leases is None:
            self._leases = Leases(self.working / _CLAIMS)
        return self._leases

    def _record(self, block: int) -> Path:
        return self.working / _BLOCKS / f"{block:06d}.csv"

    def _listed(self) -> Iterator[int]:
        with os.scandir(self.working / _BLOCKS) as entries:
            for entry in entries:
                stem, _, suffix = entry.name.partition(".")
                if suffix == "csv" and stem.isdecimal() and stem.isascii() and int(stem) < self.blocks:
                    yield int(stem)


def compare_settings(found: dict[str, Any], wanted: dict[str, Any], place: str, option: str) -> None:
    """Refuse what was made with other settings; a wanted None takes what was found.

    Raises:
        InputError: Naming the first setting that differs.
    """
    for key in sorted(found):
        ours, theirs = wanted.get(key), found[key]
        if ours != theirs and not (key in wanted and ours is None):
            raise InputError(
                f"{place} was made with {brief(key)} = {brief(theirs, 400)}, now it is {ours}: choose another, or remove it "
                f"({option})"
            )
    if lacking := sorted(set(wanted) - set(found)):
        raise InputError(f"{place} does not say with which {lacking[0]} it was made: choose another, or remove it ({option})")
