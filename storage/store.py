"""The sanitized store: one array on disk that all ranks fill at once, that survives kills, and that says what it is."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from defenses.switch import Defense
from errors import InputError
from files import digest, write_json
from ranks import Ranks

_IMAGES, _DONE, _MANIFEST = "images.npy", "done.npy", "manifest.json"


def hash_array(array: NDArray[Any]) -> str:
    """SHA-256 of an array's bytes, in blocks, so that a memory map is not copied whole."""
    hasher = hashlib.sha256(str((array.shape, array.dtype.str)).encode())
    for start in range(0, len(array), 4096):
        hasher.update(np.ascontiguousarray(array[start : start + 4096]).tobytes())
    return hasher.hexdigest()


class SanitizedStore:
    """A folder with ``images.npy`` (N, C, H, W) uint8, ``done.npy`` (N,) uint8 and ``manifest.json``.

    A row is marked done only after its pixels were flushed. Once all are, the manifest gets their SHA-256, which every
    later use checks.

    Args:
        folder: Where it lies.
        settings: What the contents depend on: source, defence, seed. A store made with others is refused.
        shape: ``(N, C, H, W)``.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], shape: tuple[int, ...]) -> None:
        self.folder = folder
        self.settings = settings
        self.shape = shape

    def create(self) -> None:
        """Create the store if it is not there, all at once; call on one rank.

        Raises:
            InputError: If the folder holds a store made with other settings, or something else.
        """
        if self.folder.exists():
            self._check()
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        partial = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            np.lib.format.open_memmap(partial / _IMAGES, "w+", np.uint8, self.shape).flush()
            np.lib.format.open_memmap(partial / _DONE, "w+", np.uint8, self.shape[:1]).flush()
            write_json(partial / _MANIFEST, {"settings": self.settings, "shape": self.shape, "sha256": None})
            os.rename(partial, self.folder)
        except OSError:
            # Another run that needs the same rows was faster: its store is as good.
            if not self.folder.exists():
                raise
            self._check()
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _manifest(self) -> dict[str, Any]:
        try:
            manifest: dict[str, Any] = json.loads((self.folder / _MANIFEST).read_text())
            manifest["settings"], manifest["sha256"], manifest["shape"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.folder} is not a sanitized store: remove it or choose another (--store)") from error
        return manifest

    def _check(self) -> None:
        manifest = self._manifest()
        found = manifest["settings"]
        for key in sorted(set(found) | set(self.settings)):
            if found.get(key) != self.settings.get(key):
                raise InputError(
                    f"the store {self.folder} was made with {key} = {found.get(key)}, now it is {self.settings.get(key)}: "
                    "remove it or choose another (--store)"
                )
        try:
            sound = self._open(_IMAGES, "r").shape == self.shape and self._open(_DONE, "r").shape == self.shape[:1]
        except (OSError, ValueError):
            sound = False
        if not sound:
            raise InputError(f"the store {self.folder} is damaged: remove it, and it is made again (--store)")

    def _open(self, name: str, mode: Literal["r", "r+", "c"]) -> NDArray[np.uint8]:
        array: NDArray[np.uint8] = np.load(self.folder / name, mmap_mode=mode, allow_pickle=False)
        return array

    def done(self) -> NDArray[np.uint8]:
        """``(N,)`` uint8, a live view: 1 for every row that any rank has finished."""
        return self._open(_DONE, "r")

    def complete(self) -> bool:
        """Whether every row is done and the checksum is recorded."""
        return (self.folder / _MANIFEST).exists() and self._manifest()["sha256"] is not None

    def write(self, start: int, images: NDArray[np.uint8]) -> None:
        """Write consecutive rows: the pixels first, the marks after."""
        stop = start + len(images)
        pixels = self._open(_IMAGES, "r+")
        pixels[start:stop] = images
        pixels.flush()  # type: ignore[attr-defined]
        marks = self._open(_DONE, "r+")
        marks[start:stop] = 1
        marks.flush()  # type: ignore[attr-defined]

    def finish(self) -> None:
        """Record the checksum; call on one rank once all have written."""
        missing = int((self.done() == 0).sum())
        if missing:
            raise RuntimeError(f"{missing} rows of {self.folder} were not written")
        if not self.complete():
            write_json(
                self.folder / _MANIFEST,
                {"settings": self.settings, "shape": self.shape, "sha256": hash_array(self._open(_IMAGES, "r"))},
            )

    def load(self) -> Tensor:
        """``(N, C, H, W)`` uint8, memory-mapped and copied only where written to.

        Raises:
            InputError: If the store is incomplete or its bytes differ from the recorded checksum.
        """
        self._check()
        manifest = self._manifest()
        if manifest["sha256"] is None:
            raise InputError(f"the store {self.folder} is not complete: run the command that makes it again (--store)")
        if hash_array(self._open(_IMAGES, "r")) != manifest["sha256"]:
            raise InputError(f"the store {self.folder} is damaged, its checksum differs: remove it (--store)")
        return torch.from_numpy(self._open(_IMAGES, "c"))


def sanitize(
    images: Tensor,
    rows: Tensor,
    defense: Defense,
    folder: Path,
    ranks: Ranks,
    *,
    batch_size: int,
    by_content: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Sanitize images into a store with all ranks of the launch, continuing where an earlier run was stopped.

    Batches are fixed by position, whole and always of ``batch_size`` rows (the last is padded), so that each row's bytes
    are the same for any number of ranks and after any number of kills.

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
        InputError: If the store was made with other settings, or there are fewer images than ranks.
    """
    if len(images) < ranks.world:
        raise InputError(f"{len(images)} images cannot be shared by {ranks.world} ranks (--trainer.devices)")
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: at least 1 is needed (--sanitize_batch_size)")
    content = {"images": hash_array(images.numpy()), "rows": hash_array(rows.numpy())}
    settings = content | defense.settings() | {"batch_size": batch_size}
    if by_content:
        folder = folder.with_name(f"{folder.name}-{digest(settings)}")
    store = SanitizedStore(folder, settings, tuple(images.shape))
    if ranks.rank == 0:
        store.create()
    ranks.barrier("store created")
    if not store.complete():
        _fill(store, images, rows, defense, ranks, batch_size, progress)
        ranks.barrier("store filled")
        if ranks.rank == 0:
            store.finish()
        ranks.barrier("store finished")
    return store.load()


def _fill(
    store: SanitizedStore,
    images: Tensor,
    rows: Tensor,
    defense: Defense,
    ranks: Ranks,
    batch_size: int,
    progress: Callable[[int, int], None],
) -> None:
    done = store.done()
    starts = range(0, len(images), batch_size)
    pending = [start for start in starts if not done[start : start + batch_size].all()]
    # Every rank must have read the marks before any rank adds one, or they would share out different lists.
    ranks.barrier("pending rows read")
    if defense.denoiser is not None:
        defense.denoiser.to(ranks.device)
    for number in ranks.share(len(pending)):
        start = pending[number]
        count = min(batch_size, len(images) - start)
        # The last batch repeats its final row: kernels are chosen by shape, and another kernel rounds differently.
        padded = torch.arange(start, start + batch_size).clamp_max(len(images) - 1)
        clean = defense(images[padded].to(ranks.device), rows[padded].to(ranks.device))
        store.write(start, clean[:count].cpu().numpy())
        if ranks.rank == 0:
            progress(int(done.sum()), len(images))
