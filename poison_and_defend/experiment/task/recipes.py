"""Whether the training recipes of a comparison can work on its victims, and what is known of them in advance."""

import math
from collections.abc import Mapping, Sequence

from poison_and_defend.attacks.base import Scenario
from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.defenses.arm import Arm
from poison_and_defend.defenses.training.base import overrides
from poison_and_defend.defenses.training.course import Run
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.recipe import Recipe


def check_recipes(experiment: Experiment, arms: Mapping[str, Arm], setups: Sequence[Setup]) -> None:
    """Refuse training recipes that cannot work on these victims.

    Raises:
        InputError: Naming value, bound and option.
    """
    scenario, data = experiment.threat.scenario, experiment.setups.data
    run = run_of(setups[0], len(data.split("train")), experiment.victims.victim_recipe, scenario, data.num_classes)
    for arm in arms.values():
        arm.training.check_run(run)
        # Heads are no networks, and fine-tuning keeps batch normalization in evaluation mode.
        if scenario != "from_scratch" or not overrides(arm.training, "check_network"):
            continue
        for name in experiment.victim_names:
            network = build_network(
                experiment.described[name], in_channels=data.image_shape[0], num_classes=data.num_classes, option="--victims"
            )
            arm.training.check_network(network, f"--victims, or leave out --arms.{arm.name}")


def run_of(setup: Setup, num_train: int, recipe: Recipe, scenario: Scenario, num_classes: int) -> Run:
    """What is known of the training of a setup's victim before it begins."""
    return Run(
        rows=len(setup.rows(num_train)),
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        heads=scenario == "transfer",
        num_classes=num_classes,
        poisons=len(setup.base_indices),
    )


def facts_of(arm: Arm, run: Run) -> dict[str, float]:
    """What an arm's recipe is known to do in advance, as records can hold it.

    Nothing where something before it looked at the whole set, or where a vote deals rows out: what is said is of one training.
    """
    if arm.filters or arm.voting is not None:
        return {}
    return {name: value for name, value in arm.training.facts(run).items() if math.isfinite(value)}
