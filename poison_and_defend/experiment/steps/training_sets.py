"""All victims' training sets over one pool of images."""

from dataclasses import dataclass

import torch
from torch import Tensor

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.defenses.switch import DefenseName
from poison_and_defend.experiment.steps.protect import Sanitized
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.lightning_modules.ensemble import EnsembleData


@dataclass(frozen=True)
class Member:
    """One victim: which setup poisoned its training set, and which defence that went through."""

    setup: int
    defense: DefenseName


def training_sets(
    plan: ExperimentPlan, members: list[Member], poison_sets: list[PoisonSet], sanitized: dict[DefenseName, Sanitized]
) -> EnsembleData:
    """All members' training sets over one pool: per defence the clean rows, then the poisons of every setup."""
    train = plan.data.split("train")
    rows = torch.from_numpy(plan.rows)
    poison_rows = torch.cat([torch.from_numpy(p.setup.base_indices) for p in poison_sets])
    pool = torch.cat([part for s in sanitized.values() for part in (s.clean, s.poisons)])
    labels = torch.cat([train.labels[rows], train.labels[poison_rows]]).repeat(len(sanitized))
    offsets = {name: i * (len(rows) + len(poison_rows)) for i, name in enumerate(sanitized)}
    place = torch.full((len(train),), -1)
    place[rows] = torch.arange(len(rows))
    count = len(poison_sets[0].images)
    sets: list[Tensor] = []
    for member in members:
        setup = poison_sets[member.setup].setup
        own = place[torch.from_numpy(setup.rows(len(train)))]
        own[torch.from_numpy(setup.positions)] = len(rows) + member.setup * count + torch.arange(count)
        sets.append(own + offsets[member.defense])
    return EnsembleData(pool, labels, torch.stack(sets))
