"""The same setups by attackers who know more and less of the defence: one experiment each, and one table with all."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from poison_and_defend.attacks import Attack
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.experiment.benchmark import Entry, run_all
from poison_and_defend.experiment.task.knowledge import check_attackers
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.experiment.task.plan import plan_experiment
from poison_and_defend.reports.experiment.attackers import print_attackers
from poison_and_defend.reports.records import read_results
from poison_and_defend.reports.summary import Summary, summarize
from poison_and_defend.training.launch import Launch


def run_attackers(asked: Entry, attackers: Sequence[str], steps: int | None, launch: Launch) -> Path:
    """Run every attacker's experiment, or what is missing of it; print success by defence and attacker.

    Args:
        asked: Their options, but for what the attacker knows.
        attackers: What each knows, as ``--knowledge`` takes it.
        steps: Of an attack through a known defence; None for the attack's own.

    Returns:
        The folder that theirs are in.

    Raises:
        InputError: If an attacker is none, or an experiment cannot work; before any of them starts.
    """
    _check(asked.experiment, attackers, steps)
    # As one experiment of these options would be called.
    name = asked.experiment.place.name or plan_experiment(_of(asked.experiment, "oblivious", None, None)).name
    return _compare([(asked, {who: f"{name}/{who}" for who in attackers})], steps, launch, Path(name))


def run_attacks(asked: Sequence[Entry], attackers: Sequence[str], steps: int | None, launch: Launch, name: str) -> Path:
    """The same for several attacks; what ignores the defence is kept as a comparison without attackers keeps it.

    Args:
        asked: Each attack's options, with the name of its experiment.
        attackers: As in :func:`run_attackers`.
        steps: As in :func:`run_attackers`.
        launch: On which ranks.
        name: Of the comparison, below the common output folder.

    Raises:
        InputError: As :func:`run_attackers`.
    """
    for entry in asked:
        _check(entry.experiment, attackers, steps)
    plan = [
        (entry, {who: f"{entry.experiment.place.name}{'' if who == 'oblivious' else f'-{who}'}" for who in attackers})
        for entry in asked
    ]
    return _compare(plan, steps, launch, Path(name))


def _compare(plan: Sequence[tuple[Entry, dict[str, str]]], steps: int | None, launch: Launch, name: Path) -> Path:
    entries = [
        Entry(_of(entry.experiment, who, steps, own), entry.config) for entry, names in plan for who, own in names.items()
    ]
    output = Path(plan[0][0].experiment.place.output_dir)
    folder = run_all(entries, launch, output / name)
    if launch.start().rank == 0:
        found: dict[str, list[Summary]] = {}
        for _, names in plan:
            for who, own in names.items():
                found.setdefault(who, []).extend(summarize(read_results(output / own / "results.jsonl", "--output_dir")))
        print_attackers(found)
    return folder


def _check(asked: Experiment, attackers: Sequence[str], steps: int | None) -> None:
    check_attackers(attackers)
    if asked.threat.knowledge != "oblivious":
        raise InputError(
            f"knowledge is {asked.threat.knowledge}, and each attacker has its own (--attackers; --knowledge goes "
            "with the command poison-and-defend)"
        )
    if steps is not None:
        at_least("known_steps", steps, 1)


def _of(asked: Experiment, knowledge: str, steps: int | None, name: str | None) -> Experiment:
    """One attacker's; who knows nothing has no options of what is known."""
    threat, knows = asked.threat, knowledge != "oblivious"
    attack = _with_steps(threat.attack, steps) if knows and steps is not None else threat.attack
    known = {} if knows else {"known_arm": None, "known_denoiser": None}
    changed = replace(threat, attack=attack, **{"knowledge": knowledge, **known})  # type: ignore[arg-type]
    return replace(asked, threat=changed, place=replace(asked.place, name=name))


def _with_steps(attack: Attack, steps: int) -> Attack:
    other = copy.copy(attack)
    other.steps = steps
    return other
