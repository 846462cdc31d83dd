"""One line of CSV for every image of a sanitized set: what it was, what became of it, and the bytes of both."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal

from errors import InputError

Status = Literal["sanitized", "copied", "skipped"]


@dataclass(frozen=True)
class RowRecord:
    """What became of one image.

    Attributes:
        row: Its number in the set, which keys its noise.
        file: Its path below the input, or empty if it came from an array.
        output: Its path below the output; empty if there is none.
        status: ``sanitized``; or, where it could not be, ``copied`` as it was or ``skipped``.
        note: Why not, or what its 8-bit pixels do not show of the file (``16 bits``, ``transparency`` ...).
        source: Checksum of the input's bytes (:func:`storage.hashing.checksum`); empty if they could not be read.
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
    with io.StringIO(newline="") as buffer:
        csv.writer(buffer, lineterminator="\n").writerows(astuple(record) for record in records)
        return buffer.getvalue()


def read_records(path: Path) -> Iterator[RowRecord]:
    """The lines of ``rows.csv`` one by one.

    Raises:
        InputError: If it is damaged.
    """
    with open(path, encoding="utf-8", newline="") as file:
        yield from parse_records(file, str(path))


def parse_records(lines: Iterable[str], name: str) -> Iterator[RowRecord]:
    """Records from CSV with its header; ``name`` is that of the file, for errors."""
    reader = csv.reader(lines)
    try:
        if next(reader, None) != HEADER.strip().split(","):
            raise ValueError("its first line is another")
        for row, *rest in reader:
            yield RowRecord(int(row), *rest)  # type: ignore[arg-type]
    except (ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{name} is no list of sanitized images: {error} (--out)") from error
