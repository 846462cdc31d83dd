"""Features of whole setups, with the surrogates' dropout kept on while an attack asks for it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from poison_and_defend.attacks.threat.surrogate import CraftBatch, Surrogate


def has_dropout(surrogate: Surrogate) -> bool:
    """Whether the surrogate declares a dropout probability above 0, as an attribute ``dropout``."""
    return bool(getattr(surrogate, "dropout", 0))


@contextmanager
def dropout_kept_on(surrogates: Sequence[Surrogate], batch: CraftBatch) -> Iterator[None]:
    """Keep the dropout of those surrogates on that have any, drawn from the batch's seeds; restores everything afterwards.

    One pass draws the masks of all setups in the batch, so that with dropout a setup's poisons depend on its neighbours: the
    seeds of all of them enter the stream. The global generators are left as they were.
    """
    dropping = [surrogate for surrogate in surrogates if has_dropout(surrogate)]
    before = [surrogate.stochastic for surrogate in dropping]
    device = batch.bases.device
    seed = int(np.random.SeedSequence(batch.seeds).generate_state(1, np.uint64)[0] >> np.uint64(1))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # Not torch.manual_seed: it also seeds devices that fork_rng does not put back.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        try:
            for surrogate in dropping:
                surrogate.stochastic = True
            yield
        finally:
            for surrogate, value in zip(dropping, before, strict=True):
                surrogate.stochastic = value


def setup_features(surrogate: Surrogate, images: Tensor, *, end_to_end: bool = False, draws: int = 1) -> list[Tensor]:
    """Features of every image of every setup from one pass.

    Args:
        images: ``(S, n, C, H, W)`` float in [0, 1].
        end_to_end: Whether to return the outputs of all blocks, in order, instead of the penultimate features alone.
        draws: How many dropout masks per image the features are averaged over, where dropout is on.

    Returns:
        One ``(S, n, F_b)`` per block.
    """
    if not surrogate.stochastic:
        draws = 1
    flat = images.flatten(0, 1)
    # Copies in one batch, not one pass after the other: every copy gets a mask of its own.
    flat = flat if draws == 1 else flat.repeat(draws, 1, 1, 1)
    blocks = surrogate.blocks(flat) if end_to_end else [surrogate.features(flat)]
    if draws > 1:
        blocks = [block.unflatten(0, (draws, -1)).mean(0) for block in blocks]
    return [block.unflatten(0, images.shape[:2]) for block in blocks]
