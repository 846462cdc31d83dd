"""The checks of an adaptive attack: several experiments, a few controls, and one table. Run again, it resumes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from poison_and_defend.attacks.crafting.views import held_out
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import make_folder
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.progress import announce
from poison_and_defend.defenses.known import straight_through
from poison_and_defend.experiment.adaptive import controls, measure, verdicts
from poison_and_defend.experiment.adaptive.runs import BASE, Runs, plan_runs
from poison_and_defend.experiment.adaptive.task import CheckOptions
from poison_and_defend.experiment.run import run as run_experiment
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.reports.adaptive_checks import Check, print_checks, write_checks
from poison_and_defend.training.launch import Launch


def run_checks(experiment: Experiment, options: CheckOptions, launch: Launch, config: str) -> list[Check]:
    """Make the checks, or what is missing of them, and write and print the table.

    Args:
        config: Resolved configuration as YAML, kept with every experiment.

    Raises:
        InputError: If the attacker knows nothing of a defence, or an experiment cannot work; before any of them starts.
    """
    started = time.perf_counter()
    runs = plan_runs(experiment, options)
    folder = measure.folder_of(runs)
    make_folder(folder, "--output_dir")
    ranks = launch.start()
    announce(estimate(runs), ranks)
    for number, (name, one) in enumerate(runs.by_name.items(), 1):
        announce(f"experiment {number} of {len(runs.by_name)}: {name}", ranks)
        run_experiment(one.plan, launch, config, until=one.until)
    checks = [_made(number, runs, options, ranks) for number in sorted(set(options.checks))]
    told = measure.about(runs, time.perf_counter() - started) | {"gradient": gradient_mode(runs)}
    if ranks.rank == 0:
        write_checks(folder, checks, told)
        print_checks(checks, told)
        announce(f"table: {folder / 'adaptive_checks.md'}", ranks)
    ranks.barrier("checks written")
    return checks


def estimate(runs: Runs) -> str:
    """How much work there is, in one sentence, for whoever wonders whether to wait."""
    plans = [one.plan for one in runs.by_name.values()]
    through = [plan for plan in plans if plan.known is not None and plan.known.rewriter.denoiser is not None]
    looks = sum(
        len(plan.setups) * len(plan.setups[0].base_indices) * (plan.attack.total_steps * plan.known.draws + _watched(plan))
        for plan in through
        if plan.known is not None
    )
    trained = [one.plan for one in runs.by_name.values() if one.until == "report"]
    victims = sum(len(plan.setups) * len(plan.victims) * len(plan.arms) for plan in trained)
    return (
        f"{len(plans)} experiments, {sum(len(plan.setups) for plan in plans)} poison sets to craft, {looks:,} images through "
        f"the denoiser while crafting, {victims} victims; what is there already is not made again"
    )


def _watched(plan: Any) -> int:
    """Passes of each poison for the objective on held-out draws, which take a third of a step's."""
    return 3 * held_out(plan.known)


def gradient_mode(runs: Runs) -> str:
    """How the attack gets its gradient through the defence, in words."""
    known = runs.base.known
    assert known is not None
    return "straight-through in part" if straight_through(known.rewriter) else "exact"


def _made(number: int, runs: Runs, options: CheckOptions, ranks: Ranks) -> Check:
    """One check; what cannot be measured says why."""
    own: dict[int, Callable[[], Check]] = {
        1: lambda: measure.measure_identity(runs),
        3: lambda: measure.measure_curves(runs),
        4: lambda: _converged(runs),
        5: lambda: _gradient(runs, options, ranks),
        7: lambda: _gradient_free(runs, options, ranks),
        10: lambda: measure.measure_counts(runs),
        11: lambda: _purified(runs, ranks),
    }
    try:
        return own[number]() if number in own else measure.measure_rates(runs, number)
    except InputError as error:
        return verdicts.not_measured(number, str(error))


def _converged(runs: Runs) -> Check:
    found = measure.courses(runs.by_name[BASE])
    if found is None:
        raise InputError("the attack tells nobody of its objective on held-out draws: watch a Sight")
    return verdicts.converged(found)


def _folder(runs: Runs) -> Path:
    return measure.folder_of(runs) / "controls"


def _gradient(runs: Runs, options: CheckOptions, ranks: Ranks) -> Check:
    plan = runs.base
    assert plan.known is not None
    depends = [plan.crafted_with, options.control_setups, controls.DIRECTIONS]
    found = controls.kept(
        _folder(runs) / "gradient.json", depends, ranks, lambda: controls.compare_gradient(plan, options.control_setups, ranks)
    )
    error = float("inf") if found["error"] is None else float(found["error"])
    return verdicts.gradient(error, "bfloat16" if plan.known.half else "float32", int(found["directions"]))


def _gradient_free(runs: Runs, options: CheckOptions, ranks: Ranks) -> Check:
    plan, setups, samples = runs.base, options.control_setups, options.spsa_samples
    own, records = measure.ends(runs.by_name[BASE]), measure.records(runs.by_name[BASE])[:setups]
    found = controls.kept(
        _folder(runs) / "spsa.json",
        [plan.crafted_with, setups, samples],
        ranks,
        lambda: controls.by_spsa(plan, setups, samples, ranks),
    )
    starts = [record.get("objective_start") for record in records]
    if own is None or not found["ends"] or None in starts:
        raise InputError("the attack tells nobody of its objective on held-out draws: watch a Sight")
    assert plan.known is not None
    passes = plan.attack.total_steps * plan.known.draws
    evaluations = f"passes of a poison through the defence: about {3 * passes:,} and {(1 + 2 * samples) * passes:,}"
    return verdicts.gradient_free([float(one) for one in starts if one is not None], own[:setups], found["ends"], evaluations)


def _purified(runs: Runs, ranks: Ranks) -> Check:
    found = controls.purified_twice(runs.base, runs.known, ranks)
    return verdicts.purified_once(**found, most=measure.most_results(runs))
