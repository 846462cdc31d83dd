"""`border`: attack success over noise, budget and poisons, for attackers who ignore the defence and who know it."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from poison_and_defend.cli.commands import experiment
from poison_and_defend.cli.options.arms import arms_of
from poison_and_defend.cli.options.parsing import CommandParser, Given, OneSentence, parse
from poison_and_defend.core.errors import InputError
from poison_and_defend.experiment.benchmark import Entry
from poison_and_defend.experiment.border import Border, Case, Grid, run_border

DEFAULTS = experiment.DEFAULTS

_LISTS = {
    "sigmas": ("[0.05,0.1,0.25,0.5,1.0,1.5]", "Noise of the defence, above 0; the undefended run stands beside them."),
    "budgets": ("[4/255,8/255,16/255,32/255]", "Budgets of the attack, eps in its norm."),
    "counts": ("[25,5]", "Poisons a setup."),
    "attackers": ("[oblivious,defense]", "What attackers know, each as --knowledge takes it."),
}
_DEFENSE = "diffusion"


def add_options(parser: CommandParser, arguments: list[str]) -> None:
    """Options of an experiment, and over what it is repeated."""
    group = parser.add_argument_group("The map", "All other options are those of each of its experiments")
    for name, (default, about) in _LISTS.items():
        group.add_argument(f"--{name}", type=str, default=default, help=about)
    group.add_argument(
        "--defense", type=str, default=_DEFENSE, help="The countermeasure whose sigma varies: a preset, a YAML file or a class."
    )
    experiment.add_options(parser, arguments)


def start(command: str, arguments: list[str]) -> None:
    """Run one experiment for each cell, or what is missing of them.

    Raises:
        InputError: If the map has no name, a list is none, or an experiment of it cannot work; before any of them starts.
    """
    own = OneSentence(add_help=False, allow_abbrev=False)
    for name, (default, _) in _LISTS.items():
        own.add_argument(f"--{name}", default=default)
    own.add_argument("--defense", default=_DEFENSE)
    own.add_argument("--name")
    asked, rest = own.parse_known_args(arguments)
    if asked.name is None:
        raise InputError("name the map: its folder holds one experiment a cell (--name)")
    lists = {name: _listed(getattr(asked, name), name) for name in _LISTS}
    grid = Grid.of(**lists)

    def given(case: Case) -> Given:
        parser = CommandParser.of(command, DEFAULTS)
        experiment.add_options(parser, rest)
        return parse(parser, [*rest, *_words(case, asked.defense, by_file), "--name", f"{asked.name}/{case.folder}"])

    # Setups from a file bring their bases; of those that are drawn there are as many as asked for.
    by_file = any(word.partition("=")[0] == "--setups" for word in rest)
    found = [(case, given(case)) for case in grid.cases]
    entries = [(case, Entry(experiment.experiment_of(one), one.text)) for case, one in found]
    folder = Path(entries[0][1].experiment.place.output_dir) / asked.name
    run_border(Border(tuple(entries), asked.defense), found[0][1].launch, folder)


def _words(case: Case, defense: str, by_file: bool) -> list[str]:
    """What one cell's experiment is asked for besides."""
    arms: dict[str, Any] = arms_of(["no_attack", "none"]) if case.knowledge == "oblivious" else {}
    (template,) = arms_of([defense]).values()
    for sigma in case.sigmas:
        arms[f"sigma_{sigma:g}"] = _with_sigma(template, sigma, defense)
    return [
        f"--arms={json.dumps(arms)}",
        *("--attack.eps", case.budget),
        *("--first_poisons" if by_file else "--num_poisons", str(case.count)),
        *("--knowledge", case.knowledge),
    ]


def _with_sigma(template: Any, sigma: float, defense: str) -> Any:
    """A countermeasure with so much noise, in the one step of it that noises.

    Raises:
        InputError: If none or several of its steps do.
    """
    arm = deepcopy(template)
    steps = [step for step in _steps(arm) if step["class_path"].rpartition(".")[2] in ("Diffusion", "NoiseOnly")]
    if len(steps) != 1:
        raise InputError(f"{len(steps)} steps of {defense} add noise: a map is of one whose sigma varies (--defense diffusion)")
    steps[0].setdefault("init_args", {})["sigma"] = sigma
    return arm


def _steps(arm: Any) -> list[dict[str, Any]]:
    if not isinstance(arm, dict):
        return []
    inner = (arm.get("init_args") or {}).get("steps")
    return [arm] if inner is None else [step for one in inner for step in _steps(one)]


def _listed(text: str, name: str) -> list[Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        found = None
    if not isinstance(found, list) or not found:
        raise InputError(f"{name} are {text!r}: write a list such as {_LISTS[name][0]} (--{name})")
    return found
