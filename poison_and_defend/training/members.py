"""Training many models at once with all ranks, and keeping them by content."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.attacks.threat.surrogate import Surrogate
from poison_and_defend.callbacks.fit_progress import FitProgress
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.defenses.training.base import Plain, Training
from poison_and_defend.defenses.training.course import State
from poison_and_defend.lightning_modules.ensemble import EnsembleModule
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.training.local_trainer import Threads, local_trainer


def overlay(setups: Sequence[Setup], num_train: int) -> tuple[Tensor, Tensor]:
    """Poisons laid over training sets, without a copy of any: all rows of the split, and after them every setup's poisons.

    Args:
        setups: All with the same number of rows and of bases.
        num_train: Rows of the training split.

    Returns:
        The row of the split that each place of the pool stands for, ``(num_train + S * k,)``, whose label it has; and the
        places of the pool that make up each setup's training set, ``(S, N)``. Both int64.
    """
    bases = torch.stack([torch.from_numpy(setup.base_indices) for setup in setups])
    rows = torch.stack([torch.from_numpy(setup.rows(num_train)) for setup in setups]).clone()
    positions = torch.stack([torch.from_numpy(setup.positions) for setup in setups])
    places = num_train + torch.arange(bases.numel()).reshape(bases.shape)
    return torch.cat([torch.arange(num_train), bases.flatten()]), rows.scatter(1, positions, places)


def share_members(count: int, per_block: int, ranks: Ranks) -> list[int]:
    """Members of this rank: whole blocks, whose composition is the same for any number of ranks."""
    blocks = [range(i, min(i + per_block, count)) for i in range(0, count, per_block)]
    return [member for number in ranks.share(len(blocks)) for member in blocks[number]]


@dataclass(frozen=True)
class Fit:
    """How members are trained together, and what is shown of it.

    Attributes:
        per_block: Members of one forward and backward pass.
        threads: CPU threads of a rank.
        text: Of the progress bar; nothing is shown without one.
        frozen_statistics: Whether batch normalization keeps its statistics.
        fast: Whether members may be computed in an order of operations that no single model has.
        defense: What each step does otherwise than the recipe says.
        extractor: Frozen network between images and members that are heads; None where members take what the pool holds.
    """

    per_block: int
    threads: int
    text: str = ""
    frozen_statistics: bool = False
    fast: bool = False
    defense: Training = field(default_factory=Plain)
    extractor: Surrogate | None = None


def fit_members(
    build: Callable[[int], nn.Module],
    seeds: Sequence[int],
    data: EnsembleData,
    recipe: Recipe,
    ranks: Ranks,
    fit: Fit,
    *,
    callbacks: Callable[[list[int]], Sequence[Callback]] = lambda members: (),
    logger: Logger | None = None,
) -> dict[int, State]:
    """Train all members, each on one rank, in one fit per rank.

    A rank that has no member trains a copy of the first: callbacks may hold collectives, which every rank must join.

    Returns:
        States of this rank's members by number.
    """
    members = share_members(len(seeds), fit.per_block, ranks)
    trained = members or [0]
    own_seeds, options = [seeds[m] for m in trained], (fit.per_block, fit.frozen_statistics, fit.fast)
    module = EnsembleModule(build, own_seeds, data.members(trained), recipe, *options, fit.defense, fit.extractor)
    hooks = [*callbacks(trained), FitProgress(fit.text, enabled=ranks.rank == 0 and bool(fit.text))]
    with Threads(fit.threads):
        local_trainer(ranks, epochs=recipe.epochs, callbacks=hooks, logger=logger).fit(module)
    return {member: module.member_state(place) for place, member in enumerate(members)}
