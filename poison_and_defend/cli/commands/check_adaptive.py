"""`check-adaptive`: whether an attack that knows the defence is strong enough to tell of the defence."""

from dataclasses import fields

from poison_and_defend.cli.commands import experiment
from poison_and_defend.cli.options.parsing import CommandParser, Given
from poison_and_defend.experiment.adaptive.run import run_checks
from poison_and_defend.experiment.adaptive.task import CheckOptions

DEFAULTS = experiment.DEFAULTS


def add_options(parser: CommandParser, arguments: list[str]) -> None:
    """Options of an experiment, and which checks are made of its attack."""
    parser.add_class_arguments(CheckOptions, None)
    experiment.add_options(parser, arguments)


def run(given: Given) -> None:
    """Make what is missing of the checks."""
    own = {field.name: given.options.pop(field.name) for field in fields(CheckOptions)}
    run_checks(experiment.experiment_of(given), CheckOptions(**own), given.launch, given.text)
