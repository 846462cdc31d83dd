"""All victims' training sets over one pool of images."""

from dataclasses import dataclass

import torch

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.defenses.switch import DefenseName
from poison_and_defend.experiment.steps.protect import Sanitized
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.lightning_modules.ensemble import EnsembleData
from poison_and_defend.training.members import overlay


@dataclass(frozen=True)
class Member:
    """One victim: which setup poisoned its training set, and which defence that went through."""

    setup: int
    defense: DefenseName


def training_sets(
    plan: ExperimentPlan, members: list[Member], poison_sets: list[PoisonSet], sanitized: dict[DefenseName, Sanitized]
) -> EnsembleData:
    """All members' training sets over one pool: per defence the clean rows, then the poisons of every setup."""
    train, rows = plan.data.split("train"), torch.from_numpy(plan.rows)
    pool_rows, sets = overlay([poisons.setup for poisons in poison_sets], len(train))
    # Of the split's own rows the pool holds those that any victim trains on.
    kept = torch.cat([rows, torch.arange(len(train), len(pool_rows))])
    place = torch.full((len(pool_rows),), -1).scatter(0, kept, torch.arange(len(kept)))
    offsets = {name: number * len(kept) for number, name in enumerate(sanitized)}
    pool = torch.cat([part for s in sanitized.values() for part in (s.clean, s.poisons)])
    labels = train.labels[pool_rows[kept]].repeat(len(sanitized))
    return EnsembleData(pool, labels, torch.stack([place[sets[m.setup]] + offsets[m.defense] for m in members]))
