"""Training many models at once with all ranks, and keeping them by content."""

from collections.abc import Callable, Sequence

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import nn

from poison_and_defend.callbacks.fit_progress import FitProgress
from poison_and_defend.core.ranks import Ranks
from poison_and_defend.lightning_modules.ensemble import EnsembleData, EnsembleModule, State
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.training.local_trainer import Threads, local_trainer


def share_members(count: int, per_block: int, ranks: Ranks) -> list[int]:
    """Members of this rank: whole blocks, whose composition is the same for any number of ranks."""
    blocks = [range(i, min(i + per_block, count)) for i in range(0, count, per_block)]
    return [member for number in ranks.share(len(blocks)) for member in blocks[number]]


def fit_members(
    build: Callable[[int], nn.Module],
    seeds: Sequence[int],
    data: EnsembleData,
    recipe: Recipe,
    ranks: Ranks,
    *,
    per_block: int,
    threads: int,
    text: str,
    callbacks: Callable[[list[int]], Sequence[Callback]] = lambda members: (),
    logger: Logger | None = None,
    frozen_statistics: bool = False,
    fast: bool = False,
) -> dict[int, State]:
    """Train all members, each on one rank, in one fit per rank; without a ``text`` no progress is shown.

    A rank that has no member trains a copy of the first: callbacks may hold collectives, which every rank must join.

    Returns:
        States of this rank's members by number.
    """
    members = share_members(len(seeds), per_block, ranks)
    trained = members or [0]
    own_seeds, options = [seeds[m] for m in trained], (per_block, frozen_statistics, fast)
    module = EnsembleModule(build, own_seeds, data.members(trained), recipe, *options)
    hooks = [*callbacks(trained), FitProgress(text, enabled=ranks.rank == 0 and bool(text))]
    with Threads(threads):
        local_trainer(ranks, epochs=recipe.epochs, callbacks=hooks, logger=logger).fit(module)
    return {member: module.member_state(place) for place, member in enumerate(members)}
