"""One line of CSV for every image of a sanitized set: what it was, what became of it, and the bytes of both."""

import csv
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import guarded, open_regular, plain
from poison_and_defend.images.names import is_below

Status = Literal["sanitized", "copied", "skipped"]
_STATES = get_args(Status)
_LONGEST = 4096  # Of a path; no system has longer ones.


@dataclass(frozen=True)
class RowRecord:
    """What became of one image.

    Attributes:
        row: Its number in the set, which keys its noise.
        file: Its path below the input, or empty if it came from an array.
        output: Its path below the output; empty if there is none.
        status: ``sanitized``; or, where it could not be, ``copied`` as it was or ``skipped``.
        note: Why not, or what its 8-bit pixels do not show of the file (``16 bits``, ``transparency`` ...).
        source: Checksum of the input's bytes (:func:`poison_and_defend.core.hashing.checksum`);
            empty if they could not be read.
        result: Checksum of the output's bytes: the file's, or an array row's.
    """

    row: int
    file: str
    output: str
    status: Status
    note: str
    source: str
    result: str


HEADER = ",".join(field.name for field in fields(RowRecord)) + "\n"


def to_lines(records: Iterable[RowRecord]) -> str:
    """CSV without its header."""
    lines: list[str] = []

    class Lines:
        def write(self, line: str) -> None:
            # The writer quotes what is part of its line's end: a name with a carriage return must be, a line's end is one byte.
            lines.append(line.removesuffix("\r\n") + "\n")

    csv.writer(Lines(), lineterminator="\r\n").writerows(astuple(record) for record in records)
    return "".join(lines)


def read_records(path: Path) -> Iterator[RowRecord]:
    """The lines of ``rows.csv`` one by one.

    Raises:
        InputError: If it is damaged.
    """
    with guarded(path, _WHAT, "--out"):
        descriptor = open_regular(path)
    with open(descriptor, encoding="utf-8", newline="") as file:
        yield from parse_records(file, str(path))


def parse_records(lines: Iterable[str], name: str) -> Iterator[RowRecord]:
    """Records from CSV with its header; ``name`` is that of the file, for errors.

    Raises:
        InputError: If a line is malformed, or names a file anywhere but below its folder.
    """
    reader = csv.reader(lines)
    try:
        if next(reader, None) != HEADER.strip().split(","):
            raise ValueError("its first line is another")
        for number, *rest in reader:
            record = RowRecord(int(number), *rest)  # type: ignore[arg-type]
            if record.row < 0 or record.status not in _STATES:
                raise ValueError(f"row {record.row} is {record.status[:20]!a}")
            if max(len(record.file), len(record.output)) > _LONGEST or not (is_below(record.file) and is_below(record.output)):
                raise ValueError(f"row {record.row} names {(record.output or record.file)[:80]!a}")
            yield record
    except (ValueError, TypeError, OSError, zipfile.BadZipFile, EOFError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} is {_WHAT}: {plain(str(error))[:200]} (--out)") from error


_WHAT = "no list of sanitized images"
