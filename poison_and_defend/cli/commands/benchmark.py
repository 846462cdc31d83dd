"""`benchmark`: several attacks on the same data, victims and setups."""

from pathlib import Path

from poison_and_defend.cli.commands import experiment
from poison_and_defend.cli.options.parsing import CommandParser, OneSentence, parse
from poison_and_defend.cli.options.presets import TRANSFER_ATTACKS
from poison_and_defend.core.errors import InputError
from poison_and_defend.experiment.attackers import run_attacks
from poison_and_defend.experiment.benchmark import Entry, run_all

DEFAULTS = experiment.DEFAULTS


def add_options(parser: CommandParser, arguments: list[str]) -> None:
    """Options of an experiment, but for all attacks alike, and which attacks these are."""
    group = parser.add_argument_group("The comparison", "All other options are those of each of its experiments")
    group.add_argument("--attacks", type=str, default=TRANSFER_ATTACKS, help="Presets of attacks, separated by commas.")
    group.add_argument(
        "--attackers",
        type=str,
        default="oblivious",
        help="What attackers know of the defence, each as --knowledge takes it, separated by commas.",
    )
    experiment.add_known_steps(group)
    experiment.add_options(parser, arguments)


def start(command: str, arguments: list[str]) -> None:
    """Run one experiment an attack, or what is missing of them.

    Raises:
        InputError: If the comparison has no name or no attack, or an experiment of it cannot work.
    """
    # An attack may have options that others lack, so that each experiment is parsed by itself.
    own = OneSentence(add_help=False, allow_abbrev=False)
    own.add_argument("--attacks", default=TRANSFER_ATTACKS)
    own.add_argument("--attackers", default="oblivious")
    own.add_argument("--known_steps", type=int)
    own.add_argument("--name")
    asked, rest = own.parse_known_args(arguments)
    if asked.name is None:
        raise InputError("name the comparison: its folder holds one experiment an attack (--name)")
    names, attackers = _listed(asked.attacks), _listed(asked.attackers)
    if not names:
        raise InputError("no attack is named (--attacks)")
    given = []
    for name, folder in zip(names, _folders(names), strict=True):
        parser = CommandParser.of(command, DEFAULTS)
        experiment.add_options(parser, rest)
        # What all attacks are tried on overrides what a preset was made for.
        given.append(parse(parser, ["--attack", name, *rest, "--name", f"{asked.name}/{folder}"]))
    entries = [Entry(experiment.experiment_of(one), one.text) for one in given]
    if attackers == ["oblivious"] and asked.known_steps is None:
        # What one attacker knows may be said by --knowledge instead.
        run_all(entries, given[0].launch, Path(entries[0].experiment.place.output_dir) / asked.name)
    else:
        run_attacks(entries, attackers, asked.known_steps, given[0].launch, asked.name)


def _listed(text: str) -> list[str]:
    """What commas separate, in brackets or not."""
    return [name.strip() for name in text.strip("[]").split(",") if name.strip()]


def _folders(names: list[str]) -> list[str]:
    """Folders of the attacks' experiments: their presets' names, and the folders of those where two have the same.

    Raises:
        InputError: If one preset is named twice.
    """
    stems = [Path(name).stem for name in names]
    folders = [
        stem if stems.count(stem) == 1 else f"{Path(name).parent.name}_{stem}" for name, stem in zip(names, stems, strict=True)
    ]
    for folder in folders:
        if folders.count(folder) > 1:
            raise InputError(f"two attacks would be kept as {folder}: name each once (--attacks)")
    return folders
