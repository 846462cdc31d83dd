"""Sanitizing into a set that any number of processes fill, whatever dies on the way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import digest
from poison_and_defend.core.hashing import checksum_file
from poison_and_defend.core.noise_secret import draw_secret, forget_secrets, keep_secret, recall_secret
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.processes.stopping import StopSignals
from poison_and_defend.core.reading.arrays import read_array
from poison_and_defend.defenses.base import SECRET
from poison_and_defend.defenses.rewriters.base import Rewriter
from poison_and_defend.images.set_files import IMAGES
from poison_and_defend.sanitizing.filler import Filler
from poison_and_defend.sanitizing.tiled import TiledDefense
from poison_and_defend.storage.ledger import BlockStore, compare_settings
from poison_and_defend.storage.sources import ArraySource
from poison_and_defend.storage.targets.array_target import ArrayTarget
from poison_and_defend.storage.targets.base import Target

# Raised when the same settings give other bytes, so that no older set is taken for one of these.
VERSION = 3


def block_size(count: int, batch_size: int) -> int:
    """Rows that a process takes at a time: one batch, or two where 32 processes still get some."""
    return batch_size * min(2, max(1, count // (32 * batch_size)))


def wanted_noise(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by which a set is looked for: one with a secret seed may have any commitment to it."""
    return settings | {"commitment": None} if settings.get("seed") == SECRET else settings


def seal_noise(settings: dict[str, Any], target: Target) -> dict[str, Any]:
    """Settings of a set that begins now: a secret seed is drawn, kept beside the output, and committed to.

    Raises:
        InputError: If it cannot be kept there.
    """
    if settings.get("seed") != SECRET:
        return settings
    secret = draw_secret()
    keep_secret(target.place, secret, target.option)
    return settings | {"commitment": secret.commitment}


def open_noise(defense: Rewriter, settings: dict[str, Any], target: Target) -> Rewriter:
    """The rewriter with the seed that a set was begun with.

    Raises:
        InputError: If its private file is gone or another's.
    """
    if not defense.needs_secret:
        return defense
    return defense.with_seed(recall_secret(target.place, str(settings.get("commitment")), target.option).seed)


def join_or_begin(
    target: Target, settings: dict[str, Any], prepare: Callable[[Path], dict[str, Any]], ranks: Ranks
) -> tuple[BlockStore, bool]:
    """The store of a set with these settings, begun by the first rank if nobody has, and whether the set is complete.

    Args:
        target: Where the set goes.
        settings: What its bytes depend on; None for a value that an earlier run may have chosen.
        prepare: Fills the working folder and returns the plan (:meth:`BlockStore.create`).
        ranks: Of this launch.

    Raises:
        InputError: If something else is there, or a set made with other settings.
    """
    store = BlockStore(target.working, target.option)
    if ranks.rank == 0 and target.manifest() is None and not store.exists():
        target.working.parent.mkdir(parents=True, exist_ok=True)
        store.create(prepare)
    ranks.barrier("set begun")
    manifest = target.manifest()
    if manifest is None:
        try:
            found = store.plan["settings"]
        except InputError:
            # Another job may have finished just now.
            manifest = target.manifest()
            if manifest is None:
                raise
    if manifest is not None:
        found = manifest["settings"]
    compare_settings(found, settings, f"{target.place}", target.option)
    if manifest is not None and ranks.rank == 0:
        # Left by processes that were killed at the very end.
        store.remove()
        settle(target, found)
    return store, manifest is not None


def settle(target: Target, settings: dict[str, Any]) -> None:
    """Remove what killed processes left of a set that is complete, and the secrets of those before it."""
    target.tidy()
    forget_secrets(target.place, settings.get("commitment"))


def sanitize(
    images: Tensor,
    rows: Tensor,
    defense: Rewriter,
    folder: Path,
    ranks: Ranks,
    *,
    batch_size: int,
    by_content: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Sanitize an array into a folder with all ranks of the launch, continuing where an earlier run was stopped.

    Blocks are fixed by position, whole batches, so that each row's bytes are the same for any number of ranks and after any
    number of kills.

    Args:
        images: ``(N, C, H, W)`` uint8.
        rows: ``(N,)`` int64: the row number that keys each image's noise.
        batch_size: Rows per model evaluation.
        by_content: Whether the folder's name is continued by a digest of all that the bytes depend on, so that whoever needs
            the same bytes finds them.
        progress: Called on rank 0 with the rows that all ranks have done, and N.

    Returns:
        ``(N, C, H, W)`` uint8, in the order of ``images``.

    Raises:
        InputError: If the folder holds something else, a batch size is out of range, or an image cannot be sanitized.
        Stopped: If a signal asked for it.
    """
    at_least("batch_size", batch_size, 1, "--sanitize_batch_size")
    source = ArraySource(images, rows)
    settings = (
        source.identify() | defense.settings_for(tuple(images.shape[1:])) | {"batch_size": batch_size, "version": VERSION}
    )
    if by_content and defense.needs_secret:
        raise RuntimeError("what has a secret seed is not found by its content")
    if by_content:
        folder = folder.with_name(f"{folder.name}-{digest(settings)}")
    target = ArrayTarget(folder, tuple(images.shape[1:]), "--store")

    def prepare(partial: Path) -> dict[str, Any]:
        target.prepare(partial, source.save(partial))
        sealed = seal_noise(settings, target)
        return {"settings": sealed, "count": len(images), "block": block_size(len(images), batch_size)}

    with StopSignals(ranks.children) as signals:
        store, complete = join_or_begin(target, wanted_noise(settings), prepare, ranks)
        if not complete:
            found = store.plan["settings"]
            tiled = TiledDefense(open_noise(defense, found, target), batch_size=batch_size, device=ranks.device)
            fill(Filler(store, source, target, tiled), ranks, signals, progress)
            if ranks.rank == 0:
                settle(target, found)
    return load(folder, tuple(images.shape))


def fill(filler: Filler, ranks: Ranks, signals: StopSignals, progress: Callable[[int, int], None]) -> None:
    """Fill a set with all ranks of this launch; see :meth:`Filler.run`."""
    try:
        filler.target.open()
    except FileNotFoundError as error:
        # Another job has finished meanwhile.
        if filler.target.manifest() is None:
            raise filler.store.missing(error) from error
        return
    try:
        filler.run(signals, progress if ranks.rank == 0 else lambda done, total: None)
    finally:
        filler.target.close()


def load(folder: Path, shape: tuple[int, ...]) -> Tensor:
    """``(N, C, H, W)`` uint8 of a complete set, memory-mapped and copied only where written to.

    Raises:
        InputError: If its bytes are not those that were written.
    """
    target = ArrayTarget(folder, shape[1:], "--store")
    manifest = target.manifest()
    if manifest is None:
        raise InputError(f"{folder} is not complete: run the command that makes it again (--store)")
    what = "not the array that was written; remove the folder, and it is made again"
    images = read_array(folder / IMAGES, what, "--store", dtype=np.uint8, shape=shape)
    if manifest.get("images") != checksum_file(folder / IMAGES):
        raise InputError(f"the sanitized set {folder} is damaged: remove it, and it is made again (--store)")
    return torch.from_numpy(images)
