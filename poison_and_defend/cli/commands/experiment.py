"""`poison-and-defend`: a whole experiment."""

from typing import Any

# Importing the rooms lets options name their classes without a path.
import poison_and_defend.attacks
import poison_and_defend.datamodules
import poison_and_defend.defenses  # noqa: F401
from poison_and_defend.cli.options.parsing import CommandParser, Given, add_task
from poison_and_defend.experiment.run import run as run_experiment
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.experiment.task.plan import plan_experiment
from poison_and_defend.training.launch import Launch

DEFAULTS = "digits"


def add_options(parser: CommandParser, arguments: list[str]) -> None:
    """Options of an experiment, and where it runs."""
    add_task(parser, Experiment)
    parser.add_argument(
        "--defenses",
        type=list[str] | None,
        default=None,
        help="Arms by the names of presets, such as [none,jpeg,diffusion+mixup], instead of the preset ones; YAML files and "
        "class paths are taken too, and --arms.NAME.OPTION changes one.",
    )
    parser.add_class_arguments(Launch, "trainer")


def add_known_steps(group: Any) -> None:
    """The option of commands that have several attackers, some of whom know the defence."""
    group.add_argument(
        "--known_steps",
        type=int | None,
        default=None,
        help="Steps of an attacker who knows the defence, each of which costs more; those of the attack by default.",
    )


def run(given: Given) -> None:
    """Run what is missing of an experiment."""
    run_experiment(plan_experiment(experiment_of(given)), given.launch, given.text)


def experiment_of(given: Given) -> Experiment:
    """The experiment that options ask for."""
    # Typed or configured, these have become arms.
    given.options.pop("defenses", None)
    return given.task(Experiment)
