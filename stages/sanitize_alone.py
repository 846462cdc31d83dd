"""The command `sanitize`: a folder, an array or a data set in, the same sanitized out, with any number of processes."""

import time
from pathlib import Path
from typing import Any

from defenses.batch_size import find_batch_size
from defenses.tiled import TiledDefense
from ranks import Ranks
from stages.launch import Launch
from stages.sanitize_estimate import duration, estimate
from stages.sanitize_task import SanitizePlan, SanitizeTask, plan_task
from stopping import StopSignals
from storage.fill import Filler
from storage.progress import StoreProgress, announce
from storage.sanitize import VERSION, block_size, fill, join_or_begin
from storage.store import BlockStore

_CPU_BATCH = 64
# Pixels that a process holds of one block, several times over.
_BLOCK_PIXELS = 1 << 22


def sanitize_alone(task: SanitizeTask, launch: Launch) -> Path:
    """Sanitize a set, or what is missing of it, with all ranks of this launch and whoever else is at it.

    Returns:
        Where the set is.

    Raises:
        InputError: If input, output or settings cannot be used, the disk is full, or ``task.unreadable`` is ``stop`` and an
            image cannot be read.
        Stopped: If a signal asked for it.
    """
    started = time.perf_counter()
    plan = plan_task(task)
    ranks = launch.start()
    with StopSignals(ranks.children) as signals:
        wanted = _settings(plan, ranks)
        store, complete = join_or_begin(plan.target, wanted, lambda partial: _begin(plan, partial, ranks), ranks)
        if not complete:
            _fill(plan, store, ranks, signals)
    ranks.barrier("sanitized")
    if ranks.rank == 0:
        announce(_summary(plan, None if complete else time.perf_counter() - started), ranks)
    return plan.target.place


def _fill(plan: SanitizePlan, store: BlockStore, ranks: Ranks, signals: StopSignals) -> None:
    settings, task = store.plan["settings"], plan.task
    try:
        plan.open_input(store.working)
    except FileNotFoundError:
        # Another job has finished meanwhile.
        if plan.target.manifest() is None:
            raise
        return
    tiled = TiledDefense(
        plan.defense,
        batch_size=settings["batch_size"],
        overlap=settings["overlap"],
        device=ranks.device,
        precision=settings["precision"],
        compiled=task.compile,
    )
    if ranks.rank == 0:
        announce(estimate(plan.source, plan.target, tiled, store.count, store.rows_done(), ranks.world), ranks)
    filler = Filler(store, plan.source, plan.target, tiled, task.unreadable)
    with StoreProgress(f"sanitize ({task.defense})", enabled=ranks.rank == 0) as bar:
        fill(filler, ranks, signals, bar)


def _settings(plan: SanitizePlan, ranks: Ranks) -> dict[str, Any]:
    """What a set that is there already must have been made with; None for what it may have chosen itself."""
    # The first rank alone lists the folder; the others join what it found.
    images = plan.describe_input() if ranks.rank == 0 else dict.fromkeys(("files", "images", "rows"))
    task = plan.task
    return {**plan.settings, **images, "batch_size": task.batch_size, "precision": task.precision, "version": VERSION}


def _begin(plan: SanitizePlan, partial: Path, ranks: Ranks) -> dict[str, Any]:
    """Fill the working folder; choose what was left open."""
    task, denoiser = plan.task, plan.defense.denoiser
    cuda = ranks.device.type == "cuda"
    precision: Any = task.precision or ("bfloat16" if cuda else "float32")
    batch_size = task.batch_size or _CPU_BATCH
    if cuda and denoiser is not None and task.batch_size is None:
        options = {"precision": precision, "compiled": task.compile}
        batch_size = find_batch_size(denoiser, plan.defense.sigma, ranks.device, **options)
    count, images = plan.save_input(partial)
    settings = {**plan.settings, **images, "batch_size": batch_size, "precision": precision, "version": VERSION}
    block = min(block_size(count, batch_size), max(1, _BLOCK_PIXELS // plan.typical_pixels(partial, count)))
    return {"settings": settings, "count": count, "block": block}


def _summary(plan: SanitizePlan, seconds: float | None) -> str:
    manifest = plan.target.manifest()
    assert manifest is not None
    text = f"{manifest['sanitized']} of {manifest['count']} images are sanitized in {plan.target.place}"
    text += "; nothing is done twice" if seconds is None else f" ({duration(seconds)})"
    failed = manifest["not_sanitized"]
    for entry in failed[:10]:
        text += f"\n  {entry['status']}: {entry['file'] or entry['row']}: {entry['reason']}"
    if failed:
        more = f"{len(failed)} images could not be sanitized" + (", the first ten are above" if len(failed) > 10 else "")
        text += f"\n  {more}; all are in the manifest"
    return text
