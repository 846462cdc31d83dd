"""All victims' training sets over one pool of images."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.experiment.steps.protect import Sanitized
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.training.members import overlay


@dataclass(frozen=True, eq=False)
class Member:
    """One model: a victim, or one of those whose vote a victim is.

    Attributes:
        setup: Place of the setup that poisoned its training set.
        arm: What that went through.
        positions: ``(n,)`` int64, the positions of the setup's training set that it trains on, in order; None for all.
        part: Number among the models of a vote; None where the model is the victim.
        seed: Of weights, order and augmentation.
    """

    setup: int
    arm: str
    seed: int
    positions: Tensor | None = None
    part: int | None = None


def received_keys(plan: ExperimentPlan, poison_sets: Sequence[PoisonSet]) -> list[Tensor]:
    """For each setup the rows of the training split that its victim trains on, ``(N,)`` int64, in order."""
    count = len(plan.data.split("train"))
    return [torch.from_numpy(poisons.setup.rows(count)) for poisons in poison_sets]


def pool_of(
    plan: ExperimentPlan, poison_sets: Sequence[PoisonSet], parts: Sequence[Sanitized]
) -> tuple[Tensor, Tensor, Tensor]:
    """Images of several arms in one pool: for each its clean rows, then the poisons of every setup.

    Returns:
        Images ``(A * P, C, H, W)`` uint8, their labels ``(A * P,)``, and the places in the first arm's part that make up each
        setup's training set, ``(S, N)``; the next arm's are P further on.
    """
    train, rows = plan.data.split("train"), torch.from_numpy(plan.rows)
    pool_rows, sets = overlay([poisons.setup for poisons in poison_sets], len(train))
    # Of the split's own rows the pool holds those that any victim trains on.
    kept = torch.cat([rows, torch.arange(len(train), len(pool_rows))])
    place = torch.full((len(pool_rows),), -1).scatter(0, kept, torch.arange(len(kept)))
    pool = torch.cat([part for one in parts for part in (one.clean, one.poisons)])
    return pool, train.labels[pool_rows[kept]].repeat(len(parts)), place[sets]


def training_sets(
    plan: ExperimentPlan, members: Sequence[Member], poison_sets: Sequence[PoisonSet], sanitized: dict[str, Sanitized]
) -> EnsembleData:
    """All members' training sets over one pool; shorter ones are gone through again until all have one length.

    Args:
        sanitized: What each arm makes of the images, all in as many versions, which are the views of the pool.
    """
    versions = [pool_of(plan, poison_sets, parts) for parts in zip(*(one.versions for one in sanitized.values()), strict=True)]
    pool, labels, sets = versions[0]
    width = len(pool) // len(sanitized)
    offsets = {name: number * width for number, name in enumerate(sanitized)}
    own = [sets[m.setup] if m.positions is None else sets[m.setup][m.positions] for m in members]
    images = pool if len(versions) == 1 else torch.cat([version[0] for version in versions])
    rows = same_length([rows + offsets[m.arm] for rows, m in zip(own, members, strict=True)])
    return EnsembleData(images, labels, rows, len(versions))


def same_length(sets: Sequence[Tensor]) -> Tensor:
    """Rows of sets ``(n,)`` each, as ``(M, N)``: a set that is shorter than the longest is gone through again."""
    longest = max(map(len, sets))
    return torch.stack([rows.repeat(-(-longest // len(rows)))[:longest] for rows in sets])
