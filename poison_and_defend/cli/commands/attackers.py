"""`attackers`: one experiment by an attacker who ignores the defence and by one who knows it, side by side."""

from poison_and_defend.cli.commands import experiment
from poison_and_defend.cli.options.parsing import CommandParser, Given
from poison_and_defend.experiment.attackers import run_attackers
from poison_and_defend.experiment.benchmark import Entry

DEFAULTS = experiment.DEFAULTS


def add_options(parser: CommandParser, arguments: list[str]) -> None:
    """Options of an experiment, and who attacks in it."""
    group = parser.add_argument_group("The attackers", "All other options are those of each one's experiment")
    group.add_argument(
        "--attackers",
        type=list[str],
        default=["oblivious", "defense"],
        help="What attackers know of the defence, each as --knowledge takes it.",
    )
    experiment.add_known_steps(group)
    experiment.add_options(parser, arguments)


def run(given: Given) -> None:
    """Run what is missing of each attacker's experiment, and compare them."""
    attackers, steps = given.options.pop("attackers"), given.options.pop("known_steps")
    run_attackers(Entry(experiment.experiment_of(given), given.text), attackers, steps, given.launch)
