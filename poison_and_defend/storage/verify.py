"""Proof that a sanitized set is whole and as it was written."""

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.hashing import checksum, checksum_file
from poison_and_defend.core.reading.arrays import read_header
from poison_and_defend.core.reading.files import guarded, plain, read_regular
from poison_and_defend.images.pictures import MAX_FILE_BYTES
from poison_and_defend.images.set_files import IMAGES, MANIFEST, ROWS, WORKING
from poison_and_defend.storage.ledger import BlockStore
from poison_and_defend.storage.records import RowRecord, read_records
from poison_and_defend.storage.targets.base import digest_set, read_manifest
from poison_and_defend.storage.targets.npz_target import LABELS, npz_working, read_npz_manifest, read_npz_records
from poison_and_defend.storage.targets.output_names import add_folders

_SHOWN = 10
_CHUNK = 1024


def verify(
    place: Path, progress: Callable[[int, int], None], source: Path | None = None, expected: str | None = None
) -> dict[str, Any]:
    """Compare every image of a set with what was recorded when it was written.

    That the record itself is the one that was written, the digest alone can tell that was printed then
    (:func:`poison_and_defend.storage.targets.base.digest_set`): a set holds no proof against whoever may write to it.

    Args:
        place: Folder or ``.npz``.
        progress: Called with the images that were looked at, and all.
        source: Folder that the images came from, to be compared too.
        expected: The set's digest, or None.

    Returns:
        The manifest.

    Raises:
        InputError: If the set is not complete or another than expected, or an image is missing, was changed or is one too
            many, naming the first ten.
    """
    is_file = place.suffix == ".npz"
    with guarded(place, "no sanitized set", "--verify"):
        working = npz_working(place) if is_file else place / WORKING
        manifest = read_npz_manifest(place, "--verify") if is_file else read_manifest(place, "--verify")
        if manifest is None:
            store = BlockStore(working, "--verify")
            if not store.exists():
                raise InputError(f"there is no sanitized set {plain(place)} (--verify)")
            raise InputError(
                f"{place} is not complete: {store.rows_done()} of {store.count} images are done, and the command that makes it "
                "continues (--verify)"
            )
    if expected is not None and digest_set(manifest) != expected.strip().lower():
        raise InputError(
            f"{place} has the digest {digest_set(manifest)}, not {plain(expected)[:80]}: it is another set (--expect)"
        )
    rows = place if is_file else place / ROWS
    if _rows_checksum(place, is_file) != manifest["rows"]:
        raise InputError(f"{place} is damaged: its list of images, {ROWS}, is not the one that was written (--verify)")
    if is_file:
        wrong = _verify_npz(place, read_npz_records(place), manifest, progress)
    elif "images" in manifest:
        wrong = _look_at_array(place / IMAGES, manifest["images"])
        wrong += _extra(place, [IMAGES], set())
    else:
        wrong = _verify_files(read_records(rows), lambda record: _look(place, record), manifest["count"], progress)
        wrong += _extra_files(place, manifest["lost_classes"], found_all=not wrong)
    if source is not None:
        records = read_npz_records(place) if is_file else read_records(rows)
        root = source if source.is_dir() else source.parent
        wrong += _verify_files(records, lambda record: _look_at_source(root, record), manifest["count"], progress)
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise InputError(f"{place} is damaged: {', '.join(map(plain, wrong[:_SHOWN]))}{more} (--verify)")
    return manifest


def _rows_checksum(place: Path, is_file: bool) -> str:
    try:
        if not is_file:
            return checksum_file(place / ROWS)
        with zipfile.ZipFile(place) as archive:
            return checksum(archive.read(ROWS))
    except (OSError, KeyError, zipfile.BadZipFile, RuntimeError) as error:
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
    if done != count:
        wrong.append(f"its list has {done} images instead of {count}")
    return wrong


def _look(place: Path, record: RowRecord) -> str:
    """What is wrong with one output, or nothing."""
    if not record.output:
        return ""
    try:
        # A link may lead to other bytes tomorrow.
        same = checksum(read_regular(f"{place}/{record.output}", MAX_FILE_BYTES, follow=False)) == record.result
    except FileNotFoundError:
        return f"{record.output} is missing"
    except OSError as error:
        return f"{record.output} cannot be read ({error.strerror})"
    return "" if same else f"{record.output} was changed"


def _look_at_source(source: Path, record: RowRecord) -> str:
    try:
        same = not record.source or checksum(read_regular(f"{source}/{record.file}", MAX_FILE_BYTES)) == record.source
    except OSError as error:
        return f"the input {record.file} cannot be read ({error.strerror})"
    return "" if same else f"the input {record.file} was changed since"


def _look_at_array(path: Path, expected: Any) -> list[str]:
    try:
        return [] if checksum_file(path) == expected else [f"{IMAGES} was changed"]
    except OSError as error:
        return [f"{IMAGES} cannot be read ({error.strerror})"]


def _extra_files(place: Path, lost_classes: Iterable[str], *, found_all: bool) -> list[str]:
    """What was not written by the run, of any kind: whoever trains on the folder might read it."""
    rows = place / ROWS
    # Names are kept only where there is one too many to be found.
    if found_all:
        folders = set(lost_classes)
        count = 0
        for record in read_records(rows):
            count += bool(record.output)
            add_folders(record.output, folders)
        files = links = 0
        seen: set[str] = set()
        for name, kind in _walk(place):
            files += kind == "file"
            links += kind == "link"
            if kind == "folder":
                seen.add(name)
        if links == 0 and files == count + 2 and seen == folders:
            return []
    outputs, folders = [record.output for record in read_records(rows) if record.output], set(lost_classes)
    for name in outputs:
        add_folders(name, folders)
    return _extra(place, outputs, folders)


def _extra(place: Path, files: Iterable[str], folders: set[str]) -> list[str]:
    known = {*files, MANIFEST, ROWS}
    wrong = []
    for name, kind in _walk(place):
        if kind == "link":
            wrong.append(f"{name} is a link")
        elif name not in (folders if kind == "folder" else known):
            wrong.append(f"{name} is one too many")
    return sorted(wrong)


def _walk(folder: Path, below: str = "") -> Iterator[tuple[str, str]]:
    """Path and kind, ``file``, ``link`` or ``folder``, of everything below a folder; links are not followed."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_symlink(), entry.is_dir(follow_symlinks=False)) for entry in entries]
    except OSError as error:
        raise InputError(f"cannot read the folder {plain(folder)}: {error.strerror} (--verify)") from error
    for name, is_link, is_folder in found:
        path = f"{below}{name}"
        yield path, "link" if is_link else "folder" if is_folder else "file"
        if is_folder and not is_link:
            yield from _walk(folder / name, f"{path}/")


def _verify_npz(
    place: Path, records: Iterator[RowRecord], manifest: dict[str, Any], progress: Callable[[int, int], None]
) -> list[str]:
    kept = (record for record in records if record.status == "sanitized")
    count, wrong = manifest["sanitized"], list[str]()
    with guarded(place, "no sanitized set", "--verify"), zipfile.ZipFile(place) as archive:
        try:
            with archive.open(IMAGES) as member:
                shape, _, _ = read_header(member, archive.getinfo(IMAGES).file_size)
                if len(shape) != 4 or shape[0] != count:
                    return [f"it holds {shape[0] if shape else 'no'} images instead of {count}"]
                size, number = prod(shape[1:]), 0
                for number, record in enumerate(kept, 1):
                    if checksum(member.read(size)) != record.result:
                        wrong.append(f"image {record.row} was changed")
                    if number % _CHUNK == 0:
                        progress(number, count)
                if number != count:
                    wrong.append(f"its list has {number} images instead of {count}")
            with archive.open(LABELS) as member:
                read_header(member, archive.getinfo(LABELS).file_size)
                if checksum(member.read()) != manifest.get("labels"):
                    wrong.append("its labels were changed")
            bad = archive.testzip()
            if bad:
                wrong.append(f"{bad} was changed")
        except zipfile.BadZipFile as error:
            wrong.append(str(error))
    progress(count, count)
    return wrong
