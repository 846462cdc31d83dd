"""Rewriting what the victims of an experiment train on: the clean rows once for all experiments, each one's poisons apart."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.core.files import digest
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.progress import StoreProgress
from poison_and_defend.defenses.arm import Arm
from poison_and_defend.defenses.rewriters.base import Rewriter
from poison_and_defend.defenses.rewriters.in_order import in_order
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.sanitizing.engine import sanitize


@dataclass(frozen=True, eq=False)
class Sanitized:
    """Training images under the rewriters of one arm.

    Attributes:
        clean: ``(U, C, H, W)`` uint8: the plan's rows of the training split.
        poisons: ``(S * k, C, H, W)`` uint8: the poisons, setup after setup.
        further: Clean rows and poisons under each further draw of the rewriters' noise, where victims train on several draws.
    """

    clean: Tensor
    poisons: Tensor
    further: "tuple[Sanitized, ...]" = ()

    @property
    def versions(self) -> "tuple[Sanitized, ...]":
        """All draws."""
        return (self, *self.further)


def sanitize_all(
    plan: ExperimentPlan, poison_sets: list[PoisonSet], ranks: Ranks, names: Sequence[str] | None = None
) -> dict[str, Sanitized]:
    """What the rewriters of the plan's arms, or of those named, make of all rows: each chain of rewriters once, in two stores.

    Only k rows differ between setups, and randomness is keyed by row, so that a poison laid over the rewritten clean set equals
    rewriting the whole poisoned set. Nothing of an attack is in the clean rows: their store is found by its content and
    serves every attack on the same training images.
    """
    arms = [plan.arms[name] for name in (plan.arms if names is None else names)]
    rows = torch.from_numpy(plan.rows)
    clean = plan.data.split("train").images[rows]
    changed = {True: torch.cat([p.images for p in poison_sets]), False: torch.cat([p.bases for p in poison_sets])}
    keys = torch.cat([torch.from_numpy(p.setup.base_indices) for p in poison_sets])
    made: dict[str, Sanitized] = {}
    results: dict[str, Sanitized] = {}
    for arm in sorted(arms, key=lambda arm: len(arm.steps) > len(arm.rewriters)):
        rewriter, known = in_order(arm.rewriters), digest([arm.attacked, *(step.settings() for step in arm.rewriters)])
        if known not in made:
            own = Sanitized(clean, changed[arm.attacked])
            if rewriter is not None:
                versions = [rewriter.version(number) for number in range(rewriter.draws)] if rewriter.draws > 1 else [rewriter]
                first, *further = [_rewritten(plan, arm, one, own, rows, keys, ranks) for one in versions]
                own = replace(first, further=tuple(further))
            made[known] = own
        results[arm.name] = made[known]
    return {arm.name: results[arm.name] for arm in arms}


def _rewritten(
    plan: ExperimentPlan,
    arm: Arm,
    rewriter: Rewriter,
    images: Sanitized,
    rows: Tensor,
    keys: Tensor,
    ranks: Ranks,
) -> Sanitized:
    # Arms that go on with the same rewriters share a store, and the arm of these alone has it under its name.
    alone = len(arm.steps) == len(arm.rewriters) and arm.attacked and max(step.draws for step in arm.rewriters) == 1
    name = "+".join(step.name for step in arm.rewriters)
    fill = partial(sanitize, defense=rewriter, ranks=ranks, batch_size=plan.speed.sanitize_batch_size)
    shown = arm.name if alone else name
    with StoreProgress(f"sanitize clean images ({shown})", enabled=ranks.rank == 0) as bar:
        own_clean = fill(images.clean, rows, folder=plan.stores / name, by_content=True, progress=bar)
    if not arm.attacked and bool(torch.isin(keys, rows).all()):
        # Bases that nobody changed are rows of the set, under the same keys.
        places = torch.full((int(rows.max()) + 1,), -1).scatter(0, rows, torch.arange(len(rows)))
        return Sanitized(own_clean, own_clean[places[keys]])
    folder = plan.folder / "stores"
    with StoreProgress(f"sanitize poisons ({shown})", enabled=ranks.rank == 0) as bar:
        own_poisons = fill(images.poisons, keys, folder=folder / shown, by_content=not alone, progress=bar)
    return Sanitized(own_clean, own_poisons)
