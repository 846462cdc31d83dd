"""What is computed beside the experiments: the gradient against finite differences, SPSA in its place, rows purified twice."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from poison_and_defend.attacks.crafting.spsa import BlackBox
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import digest, make_folder, write_json
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.progress import StoreProgress
from poison_and_defend.core.reading.files import check_fields, read_json
from poison_and_defend.defenses.known import straight_through
from poison_and_defend.defenses.rewriters.in_order import in_order
from poison_and_defend.experiment.adaptive.gradients import Probe, gradient_error
from poison_and_defend.experiment.steps.craft import Models, craft_setups
from poison_and_defend.experiment.steps.protect import sanitize_all
from poison_and_defend.experiment.steps.surrogates import attacker_models, class_models
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.poisons.files import load_poisons, poison_path

DIRECTIONS = 16
"""In which the gradient is compared, of each of a few images: random ones, since a wrong gradient is wrong in most."""

_LOOKS = 3
_ROWS = 64
_WHAT = "no numbers of a control; remove it, and they are computed again"


def models_of(plan: ExperimentPlan, ranks: Ranks) -> Models:
    """The attacker's surrogates, kept from the experiment."""
    return attacker_models(plan, ranks) if plan.class_networks is None else class_models(plan, ranks)


def kept(path: Path, depends_on: Any, ranks: Ranks, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Numbers that were computed before for the same things, or that are now; on every rank."""
    wanted, found = digest(depends_on), None
    if path.exists():
        known = check_fields(read_json(path, _WHAT, "--name"), {"of": str, "numbers": dict}, path, _WHAT, "--name")
        found = known["numbers"] if known["of"] == wanted else None
    # All ranks must have looked before one of them writes.
    ranks.barrier("controls looked for")
    if found is None:
        found = compute()
        if ranks.rank == 0:
            make_folder(path.parent, "--output_dir")
            write_json(path, {"of": wanted, "numbers": found})
    ranks.barrier("controls kept")
    return found


def compare_gradient(plan: ExperimentPlan, setups: int, ranks: Ranks) -> dict[str, Any]:
    """The gradient of the attack's first step through the defence, as its optimiser gets it.

    Returns:
        ``error``, see :func:`poison_and_defend.experiment.adaptive.gradients.gradient_error`, the largest of a few looks, null
        for infinite; ``directions``.

    Raises:
        InputError: If a part of the defence has no gradient, or the attack never looks through it.
    """
    assert plan.known is not None
    if straight_through(plan.known.rewriter):
        raise InputError("a part of the defence has no gradient and is passed through as if it changed nothing")
    probe = Probe(plan.known)

    class Enough(Exception):
        """Raised after the first step."""

    def stop(objective: torch.Tensor) -> None:
        raise Enough

    with suppress(Enough):
        craft_setups(plan, plan.setups[:setups], models_of(plan, ranks), ranks, sanitizing=probe, progress=stop)
    looks = [look for look in probe.seen if look.arrived is not None]
    if not probe.seen:
        raise InputError("the attack takes no gradient through the defence")
    if not looks:
        return {"error": None, "directions": DIRECTIONS}
    errors = [gradient_error(plan.known.rewriter, look, DIRECTIONS) for look in looks[:_LOOKS]]
    worst = max(errors)
    return {"error": None if worst == float("inf") else worst, "directions": DIRECTIONS}


def by_spsa(plan: ExperimentPlan, setups: int, samples: int, ranks: Ranks) -> dict[str, Any]:
    """The same attack on a few setups with SPSA in place of the gradient through the defence.

    Returns:
        ``ends``: the objective of each in the end, on held-out draws.
    """
    assert plan.known is not None
    ends: list[list[float]] = []
    steps = 0
    text = f"craft {plan.attack.name} by SPSA, {min(setups, len(plan.setups))} setups"
    with StoreProgress(text, enabled=ranks.rank == 0) as bar:

        def moved(objective: torch.Tensor) -> None:
            nonlocal steps
            steps += 1
            bar(steps, plan.attack.total_steps, f"steps, objective {objective.mean():.3f}")

        craft_setups(
            plan,
            plan.setups[:setups],
            models_of(plan, ranks),
            ranks,
            sanitizing=BlackBox(plan.known.in_single_precision(), samples, plan.seed),
            progress=moved,
            watch=lambda step, values: ends.append(values.tolist()),
        )
    return {"ends": ends[-1] if ends else []}


def purified_twice(plan: ExperimentPlan, arm: str, ranks: Ranks) -> dict[str, int]:
    """What victims train on, beside what the defence makes of the same poisons now, twice.

    Returns:
        ``differing``: rows that are not the same bytes all three times; ``rows``: how many were looked at; ``draws``: versions
        of each that victims train on.
    """
    folder = plan.folder / "poisons"
    poison_sets = [load_poisons(poison_path(folder, setup.index)) for setup in plan.setups]
    trained = sanitize_all(plan, poison_sets, ranks, [arm])[arm]
    rewriter = in_order(plan.arms[arm].rewriters)
    assert rewriter is not None
    images = torch.cat([poisons.images for poisons in poison_sets])[:_ROWS].to(ranks.device)
    keys = torch.cat([torch.from_numpy(poisons.setup.base_indices) for poisons in poison_sets])[:_ROWS].to(ranks.device)
    one = rewriter.version(0) if rewriter.draws > 1 else rewriter
    again = [one(images, keys).cpu() for _ in range(2)]
    # Kernels may round otherwise for other batches: a level of difference to what is kept is no other draw of noise.
    kept_rows = trained.poisons[:_ROWS].int()
    apart = (again[0] != again[1]).flatten(1).any(1) | ((again[0].int() - kept_rows).abs() > 1).flatten(1).any(1)
    return {"differing": int(apart.sum()), "rows": len(images), "draws": len(trained.versions)}
