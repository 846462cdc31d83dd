"""The same setups by attackers who know more and less of the defence: one experiment each, and one table with both."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from poison_and_defend.attacks import Attack
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.experiment.benchmark import Entry, run_all
from poison_and_defend.experiment.task.knowledge import IN_WORDS
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.experiment.task.plan import plan_experiment
from poison_and_defend.reports.experiment.attackers import print_attackers
from poison_and_defend.reports.records import read_results
from poison_and_defend.reports.summary import summarize
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
    if not attackers or len(set(attackers)) < len(attackers) or not set(attackers) <= set(IN_WORDS):
        raise InputError(f"attackers are [{', '.join(attackers)}]: name some of {', '.join(IN_WORDS)}, each once (--attackers)")
    if asked.experiment.threat.knowledge != "oblivious":
        raise InputError(
            f"knowledge is {asked.experiment.threat.knowledge}, and each attacker has its own (--attackers; --knowledge goes "
            "with the command poison-and-defend)"
        )
    if steps is not None:
        at_least("known_steps", steps, 1)
    place = asked.experiment.place
    # As one experiment of these options would be called.
    name = place.name or plan_experiment(_of(asked.experiment, "oblivious", None, None)).name
    entries = [Entry(_of(asked.experiment, knowledge, steps, f"{name}/{knowledge}"), asked.config) for knowledge in attackers]
    folder = run_all(entries, launch, Path(place.output_dir) / name)
    if launch.start().rank == 0:
        found = {who: summarize(read_results(folder / who / "results.jsonl", "--output_dir")) for who in attackers}
        print_attackers(found)
    return folder


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
