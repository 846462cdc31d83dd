"""From what the experiments left to the verdicts: results and poisons are read, and each check is given its numbers."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from poison_and_defend.experiment.adaptive import verdicts
from poison_and_defend.experiment.adaptive.curves import Curve, Point, monotone
from poison_and_defend.experiment.adaptive.runs import BASE, HOLE, UNBOUNDED, Run, Runs
from poison_and_defend.experiment.adaptive.verdicts import Course
from poison_and_defend.poisons.files import load_poisons, load_record, poison_path
from poison_and_defend.reports.adaptive_checks import Check
from poison_and_defend.reports.records import Result, read_results


def results_of(run: Run, arm: str) -> list[Result]:
    """Of one arm, setup by setup."""
    found = read_results(run.plan.folder / "results.jsonl", "--name")
    return [result for result in found if result.defense == arm and result.victim in run.plan.victims]


def rates(run: Run, arm: str) -> list[float]:
    """Success of every setup after one arm, the mean over its victims."""
    found = results_of(run, arm)
    return [fmean(result.rate for result in found if result.setup == setup.index) for setup in run.plan.setups]


def records(run: Run) -> list[dict[str, Any]]:
    """What is kept beside the poisons of every setup."""
    folder = run.plan.folder / "poisons"
    return [load_record(poison_path(folder, setup.index)) for setup in run.plan.setups]


def ends(run: Run) -> list[float] | None:
    """The objective of every setup in the end, on held-out draws; None where it was not watched."""
    held_out = [record.get("objective_held_out") for record in records(run)]
    if not all(held_out):
        return None
    return [float(list(one.values())[-1]) for one in held_out if one]


def measure_identity(runs: Runs) -> Check:
    """Check 1."""
    apart = [
        np.abs(one.images.numpy().astype(np.int16) - other.images.numpy().astype(np.int16))
        for one, other in zip(*(_poisons(runs.by_name[name]) for name in ("plain", "identity")), strict=True)
    ]
    every = np.stack(apart)
    return verdicts.identity(float((every > 1).mean()), int(every.max()))


def _poisons(run: Run) -> list[Any]:
    folder = run.plan.folder / "poisons"
    return [load_poisons(poison_path(folder, setup.index)) for setup in run.plan.setups]


def measure_curves(runs: Runs) -> Check:
    """Check 3: the points of each curve, that of the attack as it was asked for among them."""
    base, curves = runs.by_name[BASE], []
    for name in dict.fromkeys(step.curve for step in runs.steps):
        points = [Point(runs.base_values[name], rates(base, runs.known), ends(base))]
        for step in runs.steps:
            if step.curve == name:
                points.append(Point(step.value, rates(runs.by_name[step.run], runs.known), ends(runs.by_name[step.run])))
        points.sort(key=lambda point: point.value)
        curves.append(Curve(name, points, helps=name != "sigma", must=name == "eps"))
    return monotone(curves, runs.left_out)


def courses(run: Run) -> list[Course] | None:
    """How the objective of every setup went; None where nobody watched it."""
    found = []
    for record in records(run):
        held_out = [*(record.get("objective_held_out") or {}).values()]
        if not held_out or record.get("objective_start") is None:
            return None
        quarter, half, end = (held_out[max(place - 3 + len(held_out), 0)] for place in range(3))
        found.append(Course(record["objective_start"], quarter, half, end, record["objective"]))
    return found


def measure_counts(runs: Runs) -> Check:
    """Check 10."""
    base = runs.by_name[BASE]
    found = results_of(base, runs.known)
    hits = {name: sum(bool(r.success) for r in found if r.victim == name) for name in base.plan.victims}
    choices = {tuple((s.target_indices, s.adversarial_label) for s in run.plan.setups) for run in runs.by_name.values()}
    return verdicts.enough(hits, len(base.plan.setups), len(choices) == 1)


def most_results(runs: Runs) -> int:
    """The largest number of results of one setup and victim, of the attack as it was asked for after the known arm."""
    found = [(result.setup, result.victim) for result in results_of(runs.by_name[BASE], runs.known)]
    return max(map(found.count, found))


def measure_rates(runs: Runs, number: int) -> Check:
    """Checks 2, 6, 8 and 9, which compare success."""
    base, named = runs.by_name[BASE], runs.by_name
    if number == 2:
        free, own = named[UNBOUNDED], base.plan.attack.steps
        steps = free.plan.attack.steps
        return verdicts.unbounded(rates(free, runs.known), None if steps == own else steps)
    if number == 6:
        return verdicts.hole(rates(named["hole"], HOLE), rates(named["plain"], runs.undefended))
    if number == 8:
        after: Sequence[list[float]] = [rates(run, runs.known) for run in (base, named["plain"], named["random_noise"])]
        return verdicts.floor(*after)
    return verdicts.still_poisons(rates(base, runs.undefended), rates(base, runs.no_attack))


def about(runs: Runs, seconds: float) -> dict[str, Any]:
    """What the attack was, for all checks alike."""
    plan, found = runs.base, records(runs.by_name[BASE])
    assert plan.known is not None
    size = next((getattr(plan.attack, name) for name in ("learning_rate", "step_size") if hasattr(plan.attack, name)), None)
    held_out, own = ends(runs.by_name[BASE]), fmean(record["objective"] for record in found)
    return {
        "attack": plan.attack.name,
        "knowledge": plan.settings["known_defense"]["knowledge"],
        "defence": runs.known,
        "eps": plan.attack.budget.eps,
        "draws": plan.known.draws,
        "steps": plan.attack.steps,
        "step_size": size,
        "setups": len(plan.setups),
        "poisons": len(plan.setups[0].base_indices),
        "held_out_over_optimised": round(fmean(held_out) / own, 4) if held_out and own else None,
        "crafting_seconds_a_setup": round(fmean(record["seconds"] for record in found), 1),
        "seconds": round(seconds, 1),
    }


def folder_of(runs: Runs) -> Path:
    """Where the table is kept: above the experiments."""
    return runs.base.folder.parent
