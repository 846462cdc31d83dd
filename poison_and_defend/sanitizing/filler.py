"""One process's share of a sanitized set: reading, denoising and writing at once, block by block, until nothing is left."""

import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import NO_ROOM
from poison_and_defend.core.processes.stopping import Stopped, StopSignals
from poison_and_defend.diffusion.batches import Abandoned
from poison_and_defend.sanitizing.pipeline import Computing, Pipeline
from poison_and_defend.sanitizing.tiled import Group, Sanitized, TiledDefense
from poison_and_defend.storage.ledger import BlockStore
from poison_and_defend.storage.records import RowRecord
from poison_and_defend.storage.sources import Item, Source, stack
from poison_and_defend.storage.targets.base import Target

Unreadable = Literal["skip", "copy", "stop"]

_THREADS = 8
# Images that a thread reads or writes at a time: handing work over, one by one, would cost more than the work.
_CHUNK = 16
_POLL_SECONDS = 0.5
# So many failures in a row are not the images' fault.
_OUTAGE = 16
_BROKEN = "the denoiser's output was not finite, twice"


@dataclass(frozen=True, eq=False)
class Filler:
    """What is sanitized, by what, and where to.

    Args:
        store: Which blocks are whose.
        source: Where images come from.
        target: Where they go.
        tiled: What becomes of them.
        unreadable: What to do with an image that cannot be sanitized: leave it out, copy it, or stop.
    """

    store: BlockStore
    source: Source
    target: Target
    tiled: TiledDefense
    unreadable: Unreadable = "stop"

    def run(self, signals: StopSignals, progress: Callable[[int, int], None]) -> None:
        """Work until all blocks are done, by this process or by others, and the set is complete.

        While a block is denoised the next one is read and the one before is encoded and written.

        Args:
            signals: Looked at between blocks; where what is at hand takes too long, between batches, and it is given up.
            progress: Called with the rows that all processes have done, and of all.

        Raises:
            Stopped: If a signal asked for it; what was begun has been finished, or will be done again.
            InputError: If an image cannot be used and ``unreadable`` is ``stop``, or a disk is full or does not answer.
        """
        threads = torch.get_num_threads()
        if self.tiled.batches is not None:
            self.tiled.batches.abandon = lambda: signals.overdue
        try:
            if self.tiled.device.type == "cpu":
                # The denoiser's threads, begun here, have a core each; what this one does beside them, noise and blending,
                # would be split among cores that are taken, and wait for them.
                self.tiled.begin_threads()
                torch.set_num_threads(1)
            with ThreadPoolExecutor(_THREADS, "images") as pool, ThreadPoolExecutor(1, "blocks") as writer:
                self._work(pool, writer, signals, progress)
        except Abandoned as error:
            raise self._stopped(signals) from error
        except OSError as error:
            done = self.store.rows_done()
            text = f"{error.strerror} ({error.filename or self.target.working})"
            if error.errno in NO_ROOM:
                text = "there is no room left on the disk"
            raise InputError(
                f"{text}: {done} of {self.store.count} images are done and kept, and the same command continues "
                f"once it can write again ({self.target.option})"
            ) from error
        finally:
            torch.set_num_threads(threads)
            self.store.release_all()

    def _work(
        self,
        pool: ThreadPoolExecutor,
        writer: ThreadPoolExecutor,
        signals: StopSignals,
        progress: Callable[[int, int], None],
    ) -> None:
        pipeline = Pipeline(
            claim=lambda: None if signals.asked else self.store.claim(),
            read=lambda block: self._read_parts(block, pool),
            compute=self._start,
            write=lambda begun: writer.submit(self._write, begun, begun.wait(), pool),
        )
        while True:
            pipeline.advance()
            progress(self.store.rows_done(), self.store.count)
            if pipeline.busy:
                continue
            if self.target.manifest() is not None or self.store.finish(self.target.publish):
                return
            if signals.asked is not None:
                raise self._stopped(signals)
            time.sleep(_POLL_SECONDS)

    def _stopped(self, signals: StopSignals) -> Stopped:
        done = self.store.rows_done()
        return Stopped(
            f"stopped by {signals.asked}: {done} of {self.store.count} images are done, and the same command continues"
        )

    def _read_parts(self, block: int, pool: ThreadPoolExecutor) -> list[Future[list[Item]]]:
        rows = self.store.rows(block)
        parts = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
        return [pool.submit(lambda part: [self.source.read(row) for row in part], part) for part in parts]

    def _start(self, block: int, items: list[Item]) -> Computing:
        by_shape: defaultdict[tuple[int, ...], list[Item]] = defaultdict(list)
        for item in items:
            if item.pixels is not None:
                by_shape[item.pixels.shape].append(item)
        unreadable = [item for item in items if item.pixels is None]
        if len(unreadable) == len(items) >= min(_OUTAGE, self.store.count):
            raise InputError(
                f"none of the images {items[0].row} to {items[-1].row} can be read, first {items[0].file}: {items[0].note}; "
                "the same command continues"
            )
        for item in unreadable:
            self._check_allowed(item, item.note)
        groups = list(by_shape.values())
        if not groups:
            return Computing(block, items, [], lambda: [])
        wait = self.tiled.start([Group(stack(group), torch.tensor([i.key for i in group])) for group in groups])
        return Computing(block, items, groups, wait)

    def _check_allowed(self, item: Item, reason: str) -> None:
        if self.unreadable == "stop":
            name = item.file or f"number {item.row}"
            raise InputError(f"the image {name} cannot be sanitized: {reason} (--unreadable)")

    def _write(self, begun: Computing, found: list[Sanitized], pool: ThreadPoolExecutor) -> None:
        results = self._results_of(begun, found)
        parts = [begun.items[start : start + _CHUNK] for start in range(0, len(begun.items), _CHUNK)]
        try:
            written = pool.map(lambda items: [self._record_of(item, results.get(item.row)) for item in items], parts)
            records = [record for part in written for record in part]
            self.target.sync()
        except FileNotFoundError:
            # Another process did the same block, and perhaps the rest, and removed what this one was about to rename.
            if not self.store.is_recorded(begun.block) and self.target.manifest() is None:
                raise
            return
        self.store.record(begun.block, records)

    def _results_of(self, begun: Computing, found: list[Sanitized]) -> dict[int, NDArray[np.uint8]]:
        """Images ``(C, H, W)`` by their rows, of those that became numbers."""
        results: dict[int, NDArray[np.uint8]] = {}
        for group, sanitized in zip(begun.groups, found, strict=True):
            images = sanitized.images.numpy()
            for place, (item, sound) in enumerate(zip(group, sanitized.sound.tolist(), strict=True)):
                if sound:
                    results[item.row] = images[place]
                else:
                    self._check_allowed(item, _BROKEN)
        if not results and len(begun.items) >= _OUTAGE:
            raise InputError(f"the denoiser's output is not finite for any of {len(begun.items)} images (--denoiser)")
        return results

    def _record_of(self, item: Item, pixels: NDArray[np.uint8] | None) -> RowRecord:
        """Write an image, or what else becomes of it, and say so."""
        if pixels is not None:
            output, checksum = self.target.write(item.row, pixels)
            return RowRecord(item.row, item.file, output, "sanitized", item.note, item.source, checksum)
        note = item.note if item.pixels is None else _BROKEN
        raw = self.source.raw(item.row) if self.unreadable == "copy" else None
        if raw is None:
            return RowRecord(item.row, item.file, "", "skipped", note, item.source, "")
        output, checksum = self.target.copy(item.row, raw)
        return RowRecord(item.row, item.file, output, "copied", note, item.source, checksum)
