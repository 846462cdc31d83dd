"""Proof that a sanitized set is whole and as it was written."""

import os
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from errors import InputError
from storage.array_target import IMAGES
from storage.hashing import checksum, checksum_file
from storage.listing import SUFFIXES
from storage.npz_target import npz_working, read_npz_manifest, read_npz_records
from storage.records import RowRecord, read_records
from storage.store import BlockStore
from storage.targets import ROWS, WORKING, read_manifest

_SHOWN = 10
_CHUNK = 1024


def verify(place: Path, progress: Callable[[int, int], None], source: Path | None = None) -> dict[str, Any]:
    """Compare every image of a set with what was recorded when it was written.

    Args:
        place: Folder or ``.npz``.
        progress: Called with the images that were looked at, and all.
        source: Folder that the images came from, to be compared too.

    Returns:
        The manifest.

    Raises:
        InputError: If the set is not complete, or an image is missing, was changed or is one too many, naming the first ten.
    """
    is_file = place.suffix == ".npz"
    working = npz_working(place) if is_file else place / WORKING
    manifest = read_npz_manifest(place, "--verify") if is_file else read_manifest(place, "--verify")
    if manifest is None:
        store = BlockStore(working, "--verify")
        if not store.exists():
            raise InputError(f"there is no sanitized set {place} (--verify)")
        raise InputError(
            f"{place} is not complete: {store.rows_done()} of {store.count} images are done, and the command that makes it "
            "continues (--verify)"
        )
    rows = place if is_file else place / ROWS
    if _rows_checksum(place, is_file) != manifest["rows"]:
        raise InputError(f"{place} is damaged: its list of images, {ROWS}, is not the one that was written (--verify)")
    count = int(manifest["count"])
    if is_file:
        wrong = _verify_npz(place, read_npz_records(place), manifest["sanitized"], progress)
    elif (place / IMAGES).exists():
        wrong = [] if checksum_file(place / IMAGES) == manifest.get("images") else [f"{IMAGES} was changed"]
    else:
        wrong = _verify_files(read_records(rows), lambda record: _look(place, record), count, progress) + _extra(place)
    if source is not None:
        records = read_npz_records(place) if is_file else read_records(rows)
        wrong += _verify_files(records, lambda record: _look_at_source(source, record), count, progress)
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise InputError(f"{place} is damaged: {', '.join(wrong[:_SHOWN])}{more} (--verify)")
    return manifest


def _rows_checksum(place: Path, is_file: bool) -> str:
    try:
        if not is_file:
            return checksum_file(place / ROWS)
        with zipfile.ZipFile(place) as archive:
            return checksum(archive.read(ROWS))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{place} is damaged: its list of images, {ROWS}, cannot be read: {error} (--verify)") from error


def _verify_files(
    records: Iterator[RowRecord], look: Callable[[RowRecord], str], count: int, progress: Callable[[int, int], None]
) -> list[str]:
    wrong: list[str] = []
    done = 0
    with ThreadPoolExecutor(8) as pool:
        while part := list(islice(records, _CHUNK)):
            wrong += filter(None, pool.map(look, part))
            done += len(part)
            progress(done, count)
    return wrong


def _look(place: Path, record: RowRecord) -> str:
    """What is wrong with one output, or nothing."""
    if not record.output:
        return ""
    try:
        same = checksum((place / record.output).read_bytes()) == record.result
    except FileNotFoundError:
        return f"{record.output} is missing"
    except OSError as error:
        return f"{record.output} cannot be read ({error.strerror})"
    return "" if same else f"{record.output} was changed"


def _look_at_source(source: Path, record: RowRecord) -> str:
    try:
        same = not record.source or checksum((source / record.file).read_bytes()) == record.source
    except OSError as error:
        return f"the input {record.file} cannot be read ({error.strerror})"
    return "" if same else f"the input {record.file} was changed since"


def _extra(place: Path) -> list[str]:
    """Images that were not written by the run: whoever trains on the folder would train on them."""

    def images() -> Iterator[str]:
        for folder, _, files in os.walk(place):
            yield from (os.path.relpath(os.path.join(folder, name), place) for name in files if _is_image(name))  # noqa: PTH118

    # Names are kept only where there is one too many to be found.
    if sum(1 for _ in images()) <= sum(_is_image(record.output) for record in read_records(place / ROWS)):
        return []
    known = {record.output for record in read_records(place / ROWS)}
    return sorted(f"{name} is one too many" for name in images() if name not in known)


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122


def _verify_npz(place: Path, records: Iterator[RowRecord], count: int, progress: Callable[[int, int], None]) -> list[str]:
    kept = (record for record in records if record.status == "sanitized")
    wrong: list[str] = []
    try:
        with zipfile.ZipFile(place) as archive:
            with archive.open(IMAGES) as member:
                np.lib.format.read_magic(member)
                shape = np.lib.format.read_array_header_1_0(member)[0]
                if shape[0] != count:
                    return [f"it holds {shape[0]} images instead of {count}"]
                size = int(np.prod(shape[1:]))
                for number, record in enumerate(kept):
                    if checksum(member.read(size)) != record.result:
                        wrong.append(f"image {record.row} was changed")
                    if number % _CHUNK == 0:
                        progress(number, count)
            bad = archive.testzip()
            if bad:
                wrong.append(f"{bad} was changed")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        wrong.append(str(error))
    progress(count, count)
    return wrong
