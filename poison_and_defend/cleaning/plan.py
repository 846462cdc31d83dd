"""Looking at what is to be sanitized, and refusing what cannot be done before anything is computed."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from poison_and_defend.cleaning.task import SanitizeTask
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import make_folder
from poison_and_defend.core.hashing import hash_array
from poison_and_defend.core.reading.files import plain
from poison_and_defend.defenses.switch import Defense
from poison_and_defend.images.arrays import Split
from poison_and_defend.images.chosen_files import choose_files
from poison_and_defend.images.listing import SUFFIXES, Rules
from poison_and_defend.images.names import write_names
from poison_and_defend.images.pictures import check_bits
from poison_and_defend.images.set_files import ROWS
from poison_and_defend.sanitizing.tiled import TiledDefense
from poison_and_defend.storage.folder_target import FolderTarget
from poison_and_defend.storage.inputs import keep_stats, kept_stats, refuse_changed, stat_names
from poison_and_defend.storage.ledger import BlockStore
from poison_and_defend.storage.npz_target import NpzTarget, read_npz_records
from poison_and_defend.storage.output_names import top_folder
from poison_and_defend.storage.records import RowRecord, read_records
from poison_and_defend.storage.sources import ArraySource, FolderSource
from poison_and_defend.storage.targets import Target


@dataclass(frozen=True, eq=False)
class SanitizePlan:
    """A task whose input and output were looked at.

    Attributes:
        task: What was asked.
        defense: What is done to each image.
        source: Where images come from.
        target: Where they go.
        labels: ``(N,)`` int64 of an array; None for a folder.
        settings: All that the bytes depend on, but for the list of a folder's files.
    """

    task: SanitizeTask
    defense: Defense
    source: ArraySource | FolderSource
    target: Target
    labels: np.ndarray | None
    settings: dict[str, Any]

    def describe_input(self, *, listed: bool = True) -> dict[str, Any]:
        """What identifies the images.

        Args:
            listed: Whether to list a folder; None stands for its files otherwise.
        """
        if isinstance(self.source, FolderSource):
            return {"files": self.source.digest_names() if listed else None}
        assert self.labels is not None
        return self.source.settings() | {"labels": hash_array(self.labels)}

    def save_input(self, working: Path) -> tuple[int, dict[str, Any], list[str]]:
        """Put the list of images into the working folder.

        Returns:
            How many there are, what identifies them, and which files are not taken.
        """
        if isinstance(self.source, FolderSource):
            count, names, not_taken = self.source.save_names(working)
            listed = self.source.open_names(working)
            keep_stats(self.target.place, stat_names(self.source.root, (listed[row] for row in range(count))))
            if isinstance(self.target, NpzTarget):
                self.target.labels = _folder_labels(self.source, count)
                self.target.shape = self.target.shape or self.source.first_shape(count)
            self.target.prepare(working, count)
            return count, {"files": names}, not_taken
        assert self.labels is not None
        if isinstance(self.target, FolderTarget):
            write_names(working, "files", _label_names(self.labels))
        self.target.prepare(working, len(self.source.images))
        return len(self.source.images), self.describe_input(), []

    def refuse_changed(self, store: BlockStore, *, complete: bool, progress: Callable[[int, int], None]) -> None:
        """Compare the files of rows that are done with what was read of them.

        Raises:
            InputError: If one changed.
        """
        if not isinstance(self.source, FolderSource):
            return
        place, option = self.target.place, self.target.option

        def records() -> Iterator[RowRecord]:
            if not complete:
                return store.done_records()
            return read_npz_records(place) if isinstance(self.target, NpzTarget) else read_records(place / ROWS)

        if complete:
            names = (record.file for record in records())
        else:
            listed = self.source.open_names(store.working)
            names = (listed[row] for row in range(len(listed)))
        now = stat_names(self.source.root, names)
        kept = kept_stats(place, len(now))
        refuse_changed(self.source, place, now, kept, records(), progress, option)
        if kept is None or not np.array_equal(now, kept):
            # Without it all contents are compared again.
            with contextlib.suppress(OSError):
                keep_stats(place, now)

    def typical_pixels(self, working: Path, count: int) -> int:
        """Pixels of an image, the largest of a few spread over the set."""
        self.open_input(working)
        rows = np.unique(np.linspace(0, count - 1, min(16, count)).astype(int)).tolist()
        found = [self.source.read(row).pixels for row in rows]
        return max([1, *(pixels[0].size for pixels in found if pixels is not None)])

    def open_input(self, working: Path, count: int | None = None) -> None:
        """Read the list that one process saved.

        Raises:
            InputError: If it has not as many images as planned.
        """
        found = count
        if isinstance(self.source, FolderSource):
            found = len(self.source.open_names(working))
        if count is not None and found != count:
            raise InputError(
                f"{working} is damaged: it plans {count} images and lists {found}; remove it ({self.target.option})"
            )


def plan_task(task: SanitizeTask) -> SanitizePlan:
    """Look at input, output and denoiser.

    Raises:
        InputError: If anything cannot work, naming value and option.
    """
    if task.large not in ("tiles", "resize"):
        raise InputError(f"large is {task.large!r}: tiles or resize are possible (--large)")
    if task.precision not in (None, "float32", "bfloat16"):
        raise InputError(f"precision is {task.precision!r}: float32 or bfloat16 are possible (--precision)")
    if task.batch_size is not None and task.batch_size < 1:
        raise InputError(f"batch_size is {task.batch_size}: it must be at least 1 (--batch_size)")
    arrays = task.data.arrays()
    defense = task.build_defense()
    # Built for its check of the overlap, and for what it chooses.
    overlap = None if defense.denoiser is None else TiledDefense(defense, batch_size=1, overlap=task.overlap).overlap
    square = None
    if task.large == "resize":
        if defense.denoiser is None:
            raise InputError(f"the defence {task.defense} has no denoiser whose size images could get (--large)")
        square = defense.denoiser.size[0]
        if len(set(defense.denoiser.size)) > 1:
            raise InputError(f"the denoiser takes images of {defense.denoiser.size}, which are not square (--large)")
    source, labels = _open_source(task, arrays, defense, square)
    target = _open_target(task, source, labels)
    settings = {
        **defense.settings(),
        "large": task.large,
        "channels": source.channels,
        "overlap": overlap,
    }
    if isinstance(target, FolderTarget):
        settings["format"] = task.format
    if task.data.bits != 16:
        settings["bits"] = task.data.bits
    return SanitizePlan(task, defense, source, target, labels, settings)


def _open_source(
    task: SanitizeTask, arrays: tuple[Split, Tensor] | None, defense: Defense, square: int | None
) -> tuple[ArraySource | FolderSource, np.ndarray | None]:
    wanted = None if defense.denoiser is None else defense.denoiser.channels
    channels = task.data.channels or wanted or 3
    if channels not in (1, 3) or (wanted is not None and channels != wanted):
        raise InputError(
            f"images of {channels} channels do not go through a denoiser of {wanted or '1 or 3'}: "
            "leave the channels out or choose another (--data.channels, --denoiser)"
        )
    if arrays is None:
        root, chosen = choose_files(task.data.root or "", "--data.root")
        check_bits(task.data.bits, "--data.bits")
        rules = Rules("--data.root", task.data.follow_links)
        # Asked for, a colour file may become grey; without a word it may not.
        grey = task.data.channels == 1
        return FolderSource(root, channels, square, rules, may_lose_colour=grey, bits=task.data.bits, chosen=chosen), None
    split, rows = arrays
    found = split.images.shape[1]
    if (wanted or task.data.channels or found) != found:
        raise InputError(f"the images have {found} channels and the denoiser takes {wanted or channels} (--denoiser)")
    return ArraySource(split.images, rows, square), split.labels.numpy()


def _open_target(task: SanitizeTask, source: ArraySource | FolderSource, labels: np.ndarray | None) -> Target:
    out = Path(task.out)
    if "\0" in task.out or not out.name or out.name == "..":
        raise InputError(
            f"{plain(task.out) or 'nothing'} cannot be the name of an output: name a folder or an .npz file (--out)"
        )
    if out.suffix.lower() in SUFFIXES:
        raise InputError(f"{out} is named like an image: an output is a folder, even of one image, or an .npz file (--out)")
    if isinstance(source, FolderSource):
        _keep_apart(source, out)
    if out.suffix == ".npz":
        if task.unreadable == "copy":
            raise InputError("an array has no place for files that cannot be read: leave them out (--unreadable skip)")
        make_folder(out.parent, "--out")
        if out.is_dir():
            raise InputError(f"{out} is a folder: name a file (--out)")
        return NpzTarget(out, source.shape(), labels, "--out")
    target = FolderTarget(out, task.format, "--out")
    # Before the folder is made: what holds something else is not touched at all.
    target.manifest()
    make_folder(out, "--out")
    return target


def _keep_apart(source: FolderSource, out: Path) -> None:
    """Refuse an output that would be read as input, or the other way round."""
    root, inside, place = source.root, source.root.resolve(), out.resolve()
    if source.chosen is not None:
        # Named one by one, images may lie beside the output but not in it.
        for name in source.chosen:
            if place in (inside / name).parents:
                raise InputError(f"the input {plain(name)} lies in the output {out}: choose another place (--out)")
        return
    if place == inside or inside in place.parents:
        raise InputError(f"the output {out} lies in the input {root}: choose a place outside (--out)")
    if place in inside.parents:
        raise InputError(f"the input {root} lies in the output {out}: choose another place (--out)")


def _folder_labels(source: FolderSource, count: int) -> np.ndarray:
    """``(N,)`` int64: number of each image's top folder, in order; 0 where images lie in none."""
    tops = [top_folder(source.name(row)) for row in range(count)]
    return np.unique(np.array(tops), return_inverse=True)[1].astype(np.int64)


def _label_names(labels: np.ndarray) -> list[str]:
    """One file a row, in a folder a label, both padded with zeros so that their order is that of numbers."""
    width, digits = len(str(int(labels.max()))), len(str(len(labels) - 1))
    return [f"{label:0{width}d}/{row:0{digits}d}.png" for row, label in enumerate(labels.tolist())]
