"""How long poisons will take that are made through a defence, before any of them is."""

import copy
import time

import torch

from poison_and_defend.attacks.crafting.views import held_out
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.experiment.task.plan import ExperimentPlan

_TIMES = 3  # of the objective on held-out draws: at a quarter, half and the end
_ROWS = 32


def seconds_through_defense(plan: ExperimentPlan, setups: int, ranks: Ranks) -> float:
    """What the known defence alone will take for so many setups on one rank, by one pass there and back of a few bases.

    Surrogates come on top; how long they take is not known before the attack has begun.

    Args:
        plan: Of an attacker who knows a defence.
        setups: How many this rank crafts.
    """
    assert plan.known is not None
    # A copy, since one that knows the seed counts what it draws.
    known, setup = copy.copy(plan.known), plan.setups[0]
    rows = torch.from_numpy(setup.base_indices[:_ROWS])
    bases = plan.data.split("train").images[rows].to(ranks.device).float()[None] / 255
    drawn = known.draw(rows[None], plan.data.image_shape, [torch.Generator().manual_seed(0)])
    there, back = 0.0, 0.0
    # The first pass warms up what is timed with the second.
    for _ in range(2):
        started = time.perf_counter()
        with torch.no_grad():
            drawn.of(bases).sum().item()
        there = time.perf_counter() - started
        seen = bases.clone().requires_grad_()
        started = time.perf_counter()
        drawn.of(seen).sum().backward()
        back = time.perf_counter() - started
    steps = plan.attack.total_steps * known.draws
    return setups * len(setup.base_indices) / len(rows) * (steps * back + _TIMES * held_out(known) * there)
