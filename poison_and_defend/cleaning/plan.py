"""Looking at what is to be sanitized, and refusing what cannot be done before anything is computed."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poison_and_defend.cleaning.task import SanitizeInput, SanitizeTask
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import make_folder
from poison_and_defend.core.reading.files import plain
from poison_and_defend.defenses.rewriters.base import Rewriter
from poison_and_defend.defenses.rewriters.gaussian import GaussianRewriter
from poison_and_defend.defenses.rewriters.named import find_rewriter
from poison_and_defend.images.arrays import make_split, read_arrays
from poison_and_defend.images.chosen_files import choose_files
from poison_and_defend.images.listing import SUFFIXES, Rules
from poison_and_defend.images.pictures import check_bits
from poison_and_defend.sanitizing.filler import Unreadable
from poison_and_defend.sanitizing.tiled import TiledDefense
from poison_and_defend.storage.folder_source import FolderSource
from poison_and_defend.storage.inputs import keep_stats, kept_stats, refuse_changed, stat_names
from poison_and_defend.storage.ledger import BlockStore
from poison_and_defend.storage.listed import Listed
from poison_and_defend.storage.records import RowRecord
from poison_and_defend.storage.sources import ArraySource, Source
from poison_and_defend.storage.targets.base import Target
from poison_and_defend.storage.targets.folder_target import FolderTarget
from poison_and_defend.storage.targets.npz_target import NpzTarget


@dataclass(frozen=True, eq=False)
class SanitizePlan:
    """A task whose input and output were looked at; what follows never asks the task again.

    Attributes:
        defense: What is done to each image.
        source: Where images come from.
        target: Where they go.
        settings: All that the bytes depend on, but for what identifies the images and what is chosen once the set is begun.
        batch_size: Images or tiles per model evaluation; None for what is fastest.
        precision: Of the denoiser; None for what fits the device.
        compiled: Whether `torch.compile` rewrites the denoiser.
        unreadable: What happens to images that cannot be read.
    """

    defense: Rewriter
    source: Source
    target: Target
    settings: dict[str, Any]
    batch_size: int | None
    precision: str | None
    compiled: bool
    unreadable: Unreadable

    def save_input(self, working: Path) -> Listed:
        """Put the list of images into the working folder, and reserve room there for what they become."""
        listed, folder = self.source.save(working), self.source.folder()
        if folder is not None:
            keep_stats(self.target.place, stat_names(folder.root, folder.names()))
        self.target.prepare(working, listed)
        return listed

    def refuse_changed(self, store: BlockStore, *, complete: bool, progress: Callable[[int, int], None]) -> None:
        """Compare the files of rows that are done with what was read of them.

        Raises:
            InputError: If one changed.
        """
        folder, place = self.source.folder(), self.target.place
        if folder is None:
            return

        def records() -> Iterator[RowRecord]:
            return self.target.records() if complete else store.done_records()

        if not complete:
            folder.open(store.working)
        now = stat_names(folder.root, (record.file for record in records()) if complete else folder.names())
        kept = kept_stats(place, len(now))
        refuse_changed(folder, place, now, kept, records(), progress, self.target.option)
        if kept is None or not np.array_equal(now, kept):
            # Without it all contents are compared again.
            with contextlib.suppress(OSError):
                keep_stats(place, now)

    def typical_pixels(self, count: int) -> int:
        """Pixels of an image of a list that is open, the largest of a few spread over the set."""
        rows = np.unique(np.linspace(0, count - 1, min(16, count)).astype(int)).tolist()
        found = [self.source.read(row).pixels for row in rows]
        return max([1, *(pixels[0].size for pixels in found if pixels is not None)])

    def open_input(self, working: Path, count: int) -> None:
        """Read the list that one process saved.

        Raises:
            InputError: If it has not as many images as planned.
        """
        found = self.source.open(working)
        if found != count:
            raise InputError(
                f"{working} is damaged: it plans {count} images and lists {found}; remove it ({self.target.option})"
            )


def plan_sanitizing(task: SanitizeTask) -> SanitizePlan:
    """Look at input, output and denoiser.

    Raises:
        InputError: If anything cannot work, naming value and option.
    """
    if task.out is None:
        raise InputError("--out must be given, for example --out NAME")
    if task.large not in ("tiles", "resize"):
        raise InputError(f"large is {task.large!r}: tiles or resize are possible (--large)")
    if task.precision not in (None, "float32", "bfloat16"):
        raise InputError(f"precision is {task.precision!r}: float32 or bfloat16 are possible (--precision)")
    if task.batch_size is not None:
        at_least("batch_size", task.batch_size, 1)
    arrays = _open_arrays(task.data)
    defense = build_defense(task)
    # Built for its check of the overlap, and for what it chooses.
    overlap = None if defense.denoiser is None else TiledDefense(defense, batch_size=1, overlap=task.overlap).overlap
    square = _square(defense) if task.large == "resize" else None
    source = _open_source(task.data, arrays, defense, square)
    target = _open_target(task, task.out, source)
    settings = {**defense.settings(), "large": task.large, "channels": source.channels, "overlap": overlap, **target.settings()}
    if task.data.bits != 16:
        settings["bits"] = task.data.bits
    return SanitizePlan(
        defense, source, target, settings, task.batch_size, task.precision, task.compile, unreadable=task.unreadable
    )


def build_defense(task: SanitizeTask) -> Rewriter:
    """The rewriter that a task asks for.

    Raises:
        InputError: If its settings or the denoiser cannot be used.
    """
    if task.defense in ("none", "no_attack"):
        raise InputError(f"the defence {task.defense} changes nothing: choose another (--defense)")
    common: dict[str, Any] = {"sigma": task.sigma, "denoiser": task.denoiser, "steps": task.denoise_steps}
    common |= {"seed": task.noise_seed, "draw": task.draw, "quality": task.jpeg_quality}
    defense = find_rewriter(task.defense, **common)
    if isinstance(defense, GaussianRewriter):
        defense.note()
    return defense


def _square(defense: Rewriter) -> int:
    """Height and width that images are scaled to."""
    if defense.denoiser is None:
        raise InputError(f"the defence {defense.name} has no denoiser whose size images could get (--large)")
    if len(set(defense.denoiser.size)) > 1:
        raise InputError(f"the denoiser takes images of {defense.denoiser.size}, which are not square (--large)")
    return defense.denoiser.size[0]


def _open_arrays(data: SanitizeInput) -> ArraySource | None:
    """Images and labels, and the numbers of their rows that key the noise; None for image files."""
    # Of the task for data sets alone, which are not imported for folders.
    source = getattr(data, "source", None)
    if source is not None and data.root is not None:
        raise InputError(f"both {data.root} and {source.name} are named: sanitize one (--data.root, --data.source)")
    if source is not None:
        split = source.split("train")
        return ArraySource(split.images, source.row_numbers(), labels=split.labels.numpy())
    if data.root is None:
        raise InputError(
            "name the images to sanitize: a folder, an image, a pattern or an .npz (--data.root), or a data set (--data.source)"
        )
    if isinstance(data.root, list) or not data.root.endswith(".npz"):
        return None
    path = Path(data.root)
    images, labels = read_arrays(path, "--data.root")
    classes = int(labels.max(initial=0)) + 1 if np.issubdtype(labels.dtype, np.integer) else 1
    split = make_split(images, labels, classes, f"{path} (--data.root)")
    return ArraySource(split.images, torch.arange(len(split)), labels=split.labels.numpy())


def _open_source(data: SanitizeInput, arrays: ArraySource | None, defense: Rewriter, square: int | None) -> Source:
    wanted = None if defense.denoiser is None else defense.denoiser.channels
    channels = data.channels or wanted or 3
    if channels not in (1, 3) or (wanted is not None and channels != wanted):
        raise InputError(
            f"images of {channels} channels do not go through a denoiser of {wanted or '1 or 3'}: "
            "leave the channels out or choose another (--data.channels, --denoiser)"
        )
    if arrays is None:
        root, chosen = choose_files(data.root or "", "--data.root")
        check_bits(data.bits, "--data.bits")
        rules = Rules("--data.root", data.follow_links)
        # Asked for, a colour file may become grey; without a word it may not.
        grey = data.channels == 1
        return FolderSource(root, channels, square, rules, may_lose_colour=grey, bits=data.bits, chosen=chosen)
    found = arrays.channels
    if (wanted or data.channels or found) != found:
        raise InputError(f"the images have {found} channels and the denoiser takes {wanted or channels} (--denoiser)")
    arrays.square = square
    return arrays


def _open_target(task: SanitizeTask, written: str, source: Source) -> Target:
    out = Path(written)
    if "\0" in written or not out.name or out.name == "..":
        raise InputError(
            f"{plain(written) or 'nothing'} cannot be the name of an output: name a folder or an .npz file (--out)"
        )
    if out.suffix.lower() in SUFFIXES:
        raise InputError(f"{out} is named like an image: an output is a folder, even of one image, or an .npz file (--out)")
    source.keep_apart(out)
    if out.suffix == ".npz":
        if task.unreadable == "copy":
            raise InputError("an array has no place for files that cannot be read: leave them out (--unreadable skip)")
        make_folder(out.parent, "--out")
        if out.is_dir():
            raise InputError(f"{out} is a folder: name a file (--out)")
        return NpzTarget(out, "--out")
    target = FolderTarget(out, task.format, "--out")
    # Before the folder is made: what holds something else is not touched at all.
    target.manifest()
    make_folder(out, "--out")
    return target
