"""Sanitizing what the victims of an experiment train on: the clean rows once for all experiments, each one's poisons apart."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.progress import StoreProgress
from poison_and_defend.defenses.switch import DefenseName
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.sanitizing.engine import sanitize


@dataclass(frozen=True, eq=False)
class Sanitized:
    """Training images under one defence.

    Attributes:
        clean: ``(U, C, H, W)`` uint8: the plan's rows of the training split.
        poisons: ``(S * k, C, H, W)`` uint8: the poisons, setup after setup.
    """

    clean: Tensor
    poisons: Tensor


def sanitize_all(plan: ExperimentPlan, poison_sets: list[PoisonSet], ranks: Ranks) -> dict[DefenseName, Sanitized]:
    """Every defence of the experiment, each into two stores.

    Only k rows differ between setups, and noise is keyed by row, so that a poison laid over the sanitized clean set equals
    sanitizing the whole poisoned set. Nothing of an attack is in the clean rows: their store is found by its content and
    serves every attack on the same training images.
    """
    rows = torch.from_numpy(plan.rows)
    clean = plan.data.split("train").images[rows]
    poisons = torch.cat([p.images for p in poison_sets])
    poison_rows = torch.cat([torch.from_numpy(p.setup.base_indices) for p in poison_sets])
    results: dict[DefenseName, Sanitized] = {}
    for name, defense in plan.arms.items():
        if name in ("none", "no_attack"):
            bases = torch.cat([p.bases for p in poison_sets])
            results[name] = Sanitized(clean, poisons if name == "none" else bases)
            continue
        fill = partial(sanitize, defense=defense, ranks=ranks, batch_size=plan.speed.sanitize_batch_size)
        with StoreProgress(f"sanitize clean images ({name})", enabled=ranks.rank == 0) as bar:
            own_clean = fill(clean, rows, folder=plan.stores / name, by_content=True, progress=bar)
        with StoreProgress(f"sanitize poisons ({name})", enabled=ranks.rank == 0) as bar:
            own_poisons = fill(poisons, poison_rows, folder=plan.folder / "stores" / name, progress=bar)
        results[name] = Sanitized(own_clean, own_poisons)
    return results
