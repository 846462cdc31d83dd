"""`craft`: the poisons of an experiment, and no more."""

from poison_and_defend.cli.commands.experiment import DEFAULTS, add_options, experiment_of
from poison_and_defend.cli.options.parsing import Given
from poison_and_defend.experiment.run import run as run_experiment
from poison_and_defend.experiment.task.plan import plan_experiment

__all__ = ["DEFAULTS", "add_options", "run"]


def run(given: Given) -> None:
    """Craft what is missing of an experiment's poisons."""
    run_experiment(plan_experiment(experiment_of(given)), given.launch, given.text, until="craft")
