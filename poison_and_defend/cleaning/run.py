"""The command `sanitize`: a folder, an array or a data set in, the same sanitized out, with any number of processes."""

import time
from pathlib import Path
from typing import Any

from poison_and_defend.cleaning.estimate import estimate
from poison_and_defend.cleaning.plan import SanitizePlan, plan_sanitizing
from poison_and_defend.cleaning.task import SanitizeTask
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.noise_secret import secret_path
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.processes.stopping import StopSignals
from poison_and_defend.core.progress import StoreProgress, announce, duration
from poison_and_defend.core.reading.files import brief, guarded, plain
from poison_and_defend.defenses.base import SECRET
from poison_and_defend.sanitizing.batch_size import find_batch_size
from poison_and_defend.sanitizing.engine import (
    VERSION,
    block_size,
    fill,
    join_or_begin,
    open_noise,
    seal_noise,
    settle,
    wanted_noise,
)
from poison_and_defend.sanitizing.filler import Filler
from poison_and_defend.sanitizing.tiled import TiledDefense
from poison_and_defend.storage.ledger import BlockStore
from poison_and_defend.storage.targets.base import digest_set
from poison_and_defend.training.launch import Launch

_CPU_BATCH = 64
_LARGEST_BATCH = 1 << 20
_SHOWN = 10
# Pixels that a process holds of one block, several times over.
_BLOCK_PIXELS = 1 << 22


def sanitize_alone(task: SanitizeTask, launch: Launch) -> Path:
    """Sanitize a set, or what is missing of it, with all ranks of this launch and whoever else is at it.

    Returns:
        Where the set is.

    Raises:
        InputError: If input, output or settings cannot be used, an image changed since it was sanitized, the disk is full,
            ``task.unreadable`` is ``stop`` and an image cannot be read, or no image of a class could be: its folder is then
            empty.
        Stopped: If a signal asked for it.
    """
    started = time.perf_counter()
    plan = plan_sanitizing(task)
    ranks = launch.start()
    with StopSignals(ranks.children) as signals:
        wanted = _settings(plan, ranks)
        store, complete = join_or_begin(plan.target, wanted, lambda partial: _begin(plan, partial, ranks), ranks)
        if ranks.rank == 0 and (complete or store.rows_done()):
            with StoreProgress("compare what changed") as bar:
                _compare(plan, store, bar, complete=complete)
        ranks.barrier("compared")
        if not complete:
            _fill(plan, store, ranks, signals)
    ranks.barrier("sanitized")
    if ranks.rank == 0:
        manifest = plan.target.manifest()
        assert manifest is not None
        settle(plan.target, manifest["settings"])
        announce(_summary(plan, manifest, None if complete else time.perf_counter() - started), ranks)
        _refuse_lost_classes(plan, manifest)
    return plan.target.place


def _compare(plan: SanitizePlan, store: BlockStore, bar: StoreProgress, *, complete: bool) -> None:
    try:
        plan.refuse_changed(store, complete=complete, progress=bar)
    except FileNotFoundError as error:
        # Another job has finished meanwhile, and compares if it is asked to.
        if plan.target.manifest() is None:
            raise store.missing(error) from error


def _fill(plan: SanitizePlan, store: BlockStore, ranks: Ranks, signals: StopSignals) -> None:
    settings = store.plan["settings"]
    what = "no plan of a set in the making; remove its folder and begin again"
    with guarded(store.working, what, plan.target.option):
        if type(settings["batch_size"]) is not int or not 1 <= settings["batch_size"] <= _LARGEST_BATCH:
            raise ValueError(f"its batch_size is {brief(settings['batch_size'])}")
        if settings["precision"] not in ("float32", "bfloat16"):
            raise ValueError(f"its precision is {brief(settings['precision'])}")
    try:
        plan.open_input(store.working, store.count)
        defense = open_noise(plan.defense, settings, plan.target)
    except FileNotFoundError as error:
        # Another job has finished meanwhile.
        if plan.target.manifest() is None:
            raise store.missing(error) from error
        return
    tiled = TiledDefense(
        defense,
        batch_size=settings["batch_size"],
        overlap=settings["overlap"],
        device=ranks.device,
        precision=settings["precision"],
        compiled=plan.compiled,
    )
    if ranks.rank == 0:
        announce(estimate(plan.source, plan.target, tiled, store.count, store.rows_done(), ranks.world), ranks)
    filler = Filler(store, plan.source, plan.target, tiled, plan.unreadable)
    with StoreProgress(f"sanitize ({plan.defense.name})", enabled=ranks.rank == 0) as bar:
        fill(filler, ranks, signals, bar)


def _settings(plan: SanitizePlan, ranks: Ranks) -> dict[str, Any]:
    """What a set that is there already must have been made with; None for what it may have chosen itself."""
    # The first rank alone lists a folder; the others join what it found.
    listed = ranks.rank == 0 or plan.source.folder() is None
    images = plan.source.identify() if listed else {"files": None}
    options = {"batch_size": plan.batch_size, "precision": plan.precision, "version": VERSION}
    return wanted_noise({**plan.settings, **images, **options})


def _begin(plan: SanitizePlan, partial: Path, ranks: Ranks) -> dict[str, Any]:
    """Fill the working folder; choose what was left open."""
    denoiser, cuda = plan.defense.denoiser, ranks.device.type == "cuda"
    precision: Any = plan.precision or ("bfloat16" if cuda else "float32")
    batch_size = plan.batch_size or _CPU_BATCH
    if cuda and denoiser is not None and plan.batch_size is None:
        options = {"precision": precision, "compiled": plan.compiled}
        batch_size = find_batch_size(denoiser, plan.defense.sigma, ranks.device, **options)
    listed = plan.save_input(partial)
    settings = {**plan.settings, **listed.identity, "batch_size": batch_size, "precision": precision, "version": VERSION}
    block = min(block_size(listed.count, batch_size), max(1, _BLOCK_PIXELS // plan.typical_pixels(listed.count)))
    sealed = seal_noise(settings, plan.target)
    return {"settings": sealed, "count": listed.count, "block": block, "not_taken": listed.not_taken}


def _summary(plan: SanitizePlan, manifest: dict[str, Any], seconds: float | None) -> str:
    place = plan.target.place
    lines = [f"{manifest['sanitized']} of {manifest['count']} images are sanitized in {place}"]
    lines[0] += "; nothing is done twice" if seconds is None else f" ({duration(seconds)})"
    failed = manifest["not_sanitized"]
    for entry in failed[:_SHOWN]:
        lines.append(f"  {entry['status']}: {plain(entry['file'] or str(entry['row']))}: {plain(entry['reason'])}")
    if failed:
        more = f"{len(failed)} images could not be sanitized" + (", the first ten are above" if len(failed) > _SHOWN else "")
        lines.append(f"  {more}; all are in the manifest")
    passed = manifest["not_taken"]
    if passed:
        more = f" and {len(passed) - _SHOWN} more, which the manifest names" if len(passed) > _SHOWN else ""
        lines.append(f"not taken, since they are no images or hidden: {', '.join(passed[:_SHOWN])}{more}")
    seed = manifest["settings"].get("seed")
    if seed == SECRET:
        path = secret_path(place, manifest["settings"]["commitment"])
        lines.append(f"the noise has a secret seed, kept in {path}; the manifest holds a commitment to it")
    elif seed is not None:
        lines.append(f"the noise has the given seed {seed}: whoever knows it can craft poisons that survive (--noise_seed)")
    lines.append(f"digest {digest_set(manifest)}, by which --verify {place} --expect DIGEST later proves that it is this set")
    return "\n".join(lines)


def _refuse_lost_classes(plan: SanitizePlan, manifest: dict[str, Any]) -> None:
    lost = manifest["lost_classes"]
    if lost:
        raise InputError(
            f"no image of the classes {', '.join(map(plain, lost))} could be sanitized: they {plan.target.lost}; mend their "
            f"images, remove {plan.target.place} and sanitize again (--data)"
        )
