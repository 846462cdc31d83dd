"""Crafting or importing the poisons of every setup: in fixed batches, shared among ranks, kept one file a setup."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from poison_and_defend.attacks import Attack
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.sanitizing import Sanitizing
from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.attacks.threat.surrogate import Surrogate
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.progress import StoreProgress, announce, duration
from poison_and_defend.core.reading.files import brief
from poison_and_defend.defenses.known import straight_through
from poison_and_defend.experiment.steps.foresee import seconds_through_defense
from poison_and_defend.experiment.steps.retrain import retrainer
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.poisons.files import load_poisons, load_record, poison_path, save_poisons
from poison_and_defend.training.local_trainer import Threads


def keep_imported(plan: ExperimentPlan, found: list[PoisonSet], ranks: Ranks) -> list[PoisonSet]:
    """Poisons made elsewhere instead of crafted ones: kept in the experiment's folder as our own."""
    if ranks.rank == 0:
        folder = _folder(plan)
        folder.mkdir(parents=True, exist_ok=True)
        for poisons in found:
            save_poisons(poisons, folder, {"dataset": plan.data.name, "crafted_with": plan.crafted_with})
    ranks.barrier("poisons imported")
    return found


Models = list[Surrogate] | dict[int, list[Surrogate]]
"""The attacker's surrogates; by adversarial label where it knows one class."""


def craft_poisons(plan: ExperimentPlan, surrogates: Models, ranks: Ranks) -> list[PoisonSet]:
    """Craft what is missing and read everything back, validated, on every rank.

    Setups are grouped by number, not by rank, so that each batch's arithmetic is the same for any number of ranks.

    Raises:
        InputError: If poisons are there that another experiment made.
    """
    pending = _pending_batches(plan)
    ranks.barrier("missing poisons counted")
    _folder(plan).mkdir(parents=True, exist_ok=True)
    own = [pending[number] for number in ranks.share(len(pending))]
    count = sum(map(len, own))
    text = f"craft {plan.attack.name}, {count} setups"
    with StoreProgress(text, enabled=ranks.rank == 0) as bar, Threads(plan.speed.threads):
        if plan.known is not None and count and ranks.rank == 0:
            seconds = seconds_through_defense(plan, count, ranks)
            if straight_through(plan.known.rewriter):
                name = plan.known.rewriter.name
                announce(f"{name} has no gradient: the attack sees through it as if it changed nothing", ranks)
            announce(f"the way through the known defence alone takes about {duration(seconds)}; surrogates come on top", ranks)
        progress = _CraftProgress(bar, len(own) * plan.attack.total_steps)
        for batch in own:
            _craft_batch(plan, batch, surrogates, ranks, progress)
    ranks.barrier("poisons crafted")
    return _read_back(plan)


def _folder(plan: ExperimentPlan) -> Path:
    return plan.folder / "poisons"


def _pending_batches(plan: ExperimentPlan) -> list[Sequence[Setup]]:
    """Batches of which a setup has no poisons yet.

    Raises:
        InputError: If those of the others were made by something else; before hours are spent on what is missing.
    """
    size, folder = plan.speed.setups_per_batch, _folder(plan)
    batches = [plan.setups[start : start + size] for start in range(0, len(plan.setups), size)]
    pending: list[Sequence[Setup]] = []
    for batch in batches:
        paths = [poison_path(folder, setup.index) for setup in batch]
        if not all(path.with_suffix(".json").exists() for path in paths):
            pending.append(batch)
            continue
        for path in paths:
            _refuse_others(plan, path)
    return pending


class _CraftProgress:
    """Moves the bar a step on, and remembers where the objective of each setup of a batch started."""

    def __init__(self, bar: Callable[[int, int, str], None], total: int) -> None:
        self.bar, self.total, self.steps = bar, total, 0
        self.starts: list[float] = []

    def __call__(self, objective: Tensor) -> None:
        self.steps += 1
        self.starts = self.starts or objective.tolist()
        self.bar(self.steps, self.total, f"steps, objective {objective.mean():.3f}")


def _craft_batch(
    plan: ExperimentPlan, batch: Sequence[Setup], surrogates: Models, ranks: Ranks, progress: _CraftProgress
) -> None:
    started = time.perf_counter()
    progress.starts = []
    held_out: list[tuple[int, list[float]]] = []
    crafted = craft_setups(
        plan, batch, surrogates, ranks, progress=progress, watch=lambda step, values: held_out.append((step, values.tolist()))
    )
    seconds = round((time.perf_counter() - started) / len(batch), 3)
    starts: list[float | None] = [*progress.starts] or [None] * len(crafted)
    for place, (poisons, start) in enumerate(zip(crafted, starts, strict=True)):
        made = {"dataset": plan.data.name, "crafted_with": plan.crafted_with, "seconds": seconds, "objective_start": start}
        if held_out:
            # Of an attack through a defence that it knows: the objective on draws that no step saw, by steps.
            made["objective_held_out"] = {str(step): values[place] for step, values in held_out}
        save_poisons(poisons, _folder(plan), made)


def craft_setups(
    plan: ExperimentPlan,
    setups: Sequence[Setup],
    surrogates: Models,
    ranks: Ranks,
    *,
    attack: Attack | None = None,
    sanitizing: Sanitizing | None = None,
    progress: Callable[[Tensor], None] = lambda objective: None,
    watch: Callable[[int, Tensor], None] | None = None,
) -> list[PoisonSet]:
    """Poisons of some setups, in one batch; nothing is kept.

    Args:
        attack: By default the plan's.
        sanitizing: What poisons are looked at through; by default the defence that the plan's attacker knows.
        progress: Told every step's objective, as :meth:`poison_and_defend.attacks.Attack.craft` does.
        watch: Told the objective on draws that no step saw, as :meth:`poison_and_defend.attacks.Attack.craft` does.
    """
    train, test = plan.data.split("train"), plan.data.split("test")
    return (attack or plan.attack).craft(
        setups,
        train.images,
        train.labels,
        test.images,
        [] if isinstance(surrogates, dict) else surrogates,
        device=ranks.device,
        progress=progress,
        retrain=retrainer(plan, ranks),
        class_surrogates=surrogates if isinstance(surrogates, dict) else None,
        sanitizing=sanitizing or plan.known,
        watch=watch,
    )


def _read_back(plan: ExperimentPlan) -> list[PoisonSet]:
    paths = [poison_path(_folder(plan), setup.index) for setup in plan.setups]
    for path in paths:
        _refuse_others(plan, path)
    train, test = plan.data.split("train"), plan.data.split("test")
    loaded = [load_poisons(path) for path in paths]
    for path, setup, poisons in zip(paths, plan.setups, loaded, strict=True):
        # An attack that selects its bases has its own choice of them, of the same class.
        found = poisons.setup.seed, poisons.setup.target_indices, poisons.setup.adversarial_label
        if found != (setup.seed, setup.target_indices, setup.adversarial_label):
            raise InputError(f"{path} belongs to another setup: remove it (--name)")
        poisons.check_against(train.images, train.labels, test.labels)
    return loaded


def _refuse_others(plan: ExperimentPlan, path: Path) -> None:
    """Refuse poisons that say that something else made them, or do not say what did."""
    found = load_record(path).get("crafted_with")
    if found != plan.crafted_with:
        raise InputError(
            f"{path} was crafted with other settings or data ({brief(found or 'unknown')}, not {plan.crafted_with}): "
            "choose another folder, or remove this one (--name)"
        )
