"""How long sanitizing a set will take and how much disk it needs, from a few of its images."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from defenses.tiled import Group, TiledDefense
from errors import InputError
from storage.folder_target import FolderTarget, encode
from storage.sources import Item, Source
from storage.targets import Target

_FILE_BLOCK = 4096
# A line of rows.csv, and the names in the working folder.
_RECORD = 250


def estimate(source: Source, target: Target, tiled: TiledDefense, count: int, done: int, world: int) -> str:
    """Measure a few images, spread evenly over the set.

    Args:
        source: Where images come from.
        target: Where they will go.
        tiled: What will be done; on a GPU a whole batch is measured.
        count: Images of the set.
        done: How many of them are done already.
        world: Processes of this launch.

    Returns:
        A sentence: how many images, how long, how much disk.

    Raises:
        InputError: If the disk has less room.
    """
    sample = 16 if tiled.device.type == "cpu" else tiled.batch_size
    rows = np.unique(np.linspace(0, count - 1, min(sample, count)).round().astype(int)).tolist()
    with ThreadPoolExecutor() as pool:
        items = [item for item in pool.map(source.read, rows) if item.pixels is not None]
    if not items:
        return f"{count} images, {len(rows)} of which were tried and cannot be read"
    # What runs first pays for kernels being chosen.
    tiled([_group(item) for item in items[: tiled.batches.chunk if tiled.batches else 1]])
    started = time.perf_counter()
    found = tiled([_group(item) for item in items])
    seconds = (time.perf_counter() - started) / len(items)
    sizes = [_size(target, images.images[0].numpy()) for images in found]
    left = count - done
    needed = int(np.mean(sizes) * left)
    free = shutil.disk_usage(_existing(target.place)).free
    begun = f", {done} of them done" if done else ""
    ranks = f" on {world} processes" if world > 1 else ""
    if needed > free:
        raise InputError(
            f"{left} images need about {_bytes(needed)} of disk, {_bytes(free)} are free at {target.place} ({target.option})"
        )
    return (
        f"{count} images{begun}: about {duration(seconds * left / world)} at {world / seconds:.0f} a second{ranks}, "
        f"{_bytes(needed)} of {_bytes(free)} free disk, into {target.place}"
    )


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _group(item: Item) -> Group:
    return Group(torch.from_numpy(np.ascontiguousarray(item.pixels))[None], torch.tensor([item.key]))


def _size(target: Target, pixels: np.ndarray) -> int:
    if isinstance(target, FolderTarget):
        return -(-len(encode(pixels, target.form)) // _FILE_BLOCK) * _FILE_BLOCK + _RECORD
    # The array, which is reserved, and its copy in the .npz.
    return pixels.nbytes + _RECORD


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())


def _bytes(number: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
