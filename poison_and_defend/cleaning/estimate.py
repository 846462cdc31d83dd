"""How long sanitizing a set will take and how much disk it needs, from a few of its images."""

import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.progress import duration
from poison_and_defend.sanitizing.tiled import Group, Sanitized, TiledDefense
from poison_and_defend.storage.sources import Item, Source
from poison_and_defend.storage.targets.base import Target

# Half a block of the disk that a file leaves empty, a line of rows.csv, and the names in the working folder.
_OVERHEAD = 2300
# Batches of tiles that are measured.
_TILES = 4


def estimate(source: Source, target: Target, tiled: TiledDefense, count: int, done: int, world: int) -> str:
    """Measure a few tiles, and count those of a few images, spread evenly over the set.

    Args:
        source: Where images come from.
        target: Where they will go.
        tiled: What will be done; on a GPU a whole batch is measured.
        count: Images of the set.
        done: How many of them are done already.
        world: Processes of this launch.

    Returns:
        A sentence: how many images, how long, how much disk; and a second one if 16-bit images hold fewer bits.

    Raises:
        InputError: If the disk has less room.
    """
    sample = 16 if tiled.device.type == "cpu" else tiled.batch_size
    rows = np.unique(np.linspace(0, count - 1, min(sample, count)).round().astype(int)).tolist()
    started = time.perf_counter()
    with ThreadPoolExecutor() as pool:
        items = [item for item in pool.map(source.read, rows) if item.pixels is not None]
    if not items:
        return f"{count} images, {len(rows)} of which were tried and cannot be read"
    reading = (time.perf_counter() - started) / len(items)
    areas = np.array([item.pixels[0].size for item in items if item.pixels is not None], float)
    parts, share = _parts(tiled, items)
    found, denoising = _measure(tiled, parts)
    started = time.perf_counter()
    sizes = [target.size(images.images[0].numpy()) for images in found]
    writing = time.perf_counter() - started
    measured = sum(part.images[0, 0].numel() for part in parts)
    # Writing goes on beside denoising, on the same cores.
    seconds = (denoising * share + writing * areas.sum() / measured / _cores(tiled)) / len(items) + reading / 2
    left = count - done
    needed = int(sum(sizes) / measured * areas.mean() * left) + left * _OVERHEAD
    free = shutil.disk_usage(_existing(target.place)).free
    begun = f", {done} of them done" if done else ""
    ranks = f" on {world} processes" if world > 1 else ""
    if needed > free:
        raise InputError(
            f"{left} images need about {_bytes(needed)} of disk, {_bytes(free)} are free at {target.place} ({target.option})"
        )
    rate = world / seconds
    speed = f"{rate:.0f} a second" if rate >= 10 else f"{rate:.2g} a second"
    return (
        f"{count} images{begun}: about {duration(seconds * left / world)} at {speed}{ranks}, "
        f"{_bytes(needed)} of {_bytes(free)} free disk, into {target.place}{_dark(items)}"
    )


def _parts(tiled: TiledDefense, items: list[Item]) -> tuple[list[Group], float]:
    """Images, or their upper left corners, of few tiles together; and how much more all the images hold of these."""
    if tiled.batches is None:
        return [_group(item.pixels, item.key) for item in items], 1.0
    most = max(1, _TILES * tiled.batches.chunk // len(items))
    side = max(1, int(most**0.5))
    limit = [size + (side - 1) * (size - tiled.overlap) for size in tiled.size]
    parts, wanted, cut = [], 0, 0
    for item in items:
        assert item.pixels is not None
        part = _group(item.pixels[:, : limit[0], : limit[1]], item.key)
        parts.append(part)
        cut += tiled.layout(part.images).tiles
        wanted += tiled.layout(torch.empty(1, 1, *item.pixels.shape[1:])).tiles
    return parts, wanted / cut


def _measure(tiled: TiledDefense, parts: list[Group]) -> tuple[list[Sanitized], float]:
    """What becomes of them, and how many seconds that takes with the threads that a run has."""
    # What runs first pays for kernels being chosen.
    tiled(parts[:1])
    threads = torch.get_num_threads()
    try:
        if tiled.device.type == "cpu":
            tiled.begin_threads()
            torch.set_num_threads(1)
        started = time.perf_counter()
        found = tiled(parts)
        return found, time.perf_counter() - started
    finally:
        torch.set_num_threads(threads)


def _cores(tiled: TiledDefense) -> int:
    return torch.get_num_threads() if tiled.device.type == "cpu" else 1


def _dark(items: list[Item]) -> str:
    """What to say of 16-bit images that come out nearly black."""
    most = [int(match[1]) for item in items if (match := re.search(r"16 bits up to (\d+)", item.note))]
    if not most:
        return ""
    bits = max(8, max(most).bit_length())
    return (
        f"\n{len(most)} of {len(items)} images looked at have 16 bits and no value above {max(most)}, and come out nearly "
        f"black: if that is all they can have, say so (--data.bits {bits})"
    )


def _group(pixels: Any, key: int) -> Group:
    return Group(torch.from_numpy(np.array(pixels))[None], torch.tensor([key]))


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())


def _bytes(number: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
