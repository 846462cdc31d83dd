"""Which networks an experiment needs, and what each depends on."""

from pathlib import Path

import torch

from poison_and_defend.attacks.base import Scenario
from poison_and_defend.datamodules import Split
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.lightning_modules.backbones import Backbone, BackboneName
from poison_and_defend.lightning_modules.classifier import load_weights
from poison_and_defend.training.kept_models import ModelSpec

# A robust surrogate shares no seed with the extractor of any victim: it must be independent of it.
_ROBUST = 500


def model_seed(experiment: Experiment, number: int) -> int:
    """Seeds that no victim shares: those count from zero per setup, these from the top."""
    return 2**62 - 1 - 7919 * (experiment.seed * 1000 + number)


def clean_training_set(experiment: Experiment) -> Split:
    """From scratch the attacker knows the training set but not the victim's initialisation (grey box)."""
    train, rows = experiment.data.split("train"), torch.from_numpy(experiment.rows)
    return Split(train.images[rows], train.labels[rows])


def standard_spec(experiment: Experiment, backbone: BackboneName, number: int) -> ModelSpec:
    """The ``number``-th network of an architecture: the first is the victims' own extractor where they have one."""
    if experiment.scenario == "from_scratch":
        split, classes = clean_training_set(experiment), experiment.data.num_classes
    elif experiment.pretraining is not None:
        split, classes = experiment.pretraining.split("train"), experiment.pretraining.num_classes
    else:
        split, classes = experiment.public, experiment.data.num_classes
    return ModelSpec(
        backbone,
        model_seed(experiment, number),
        experiment.feature_recipe,
        split,
        classes,
        experiment.data,
        experiment.dropout,
        experiment.threads,
    )


def robust_spec(experiment: Experiment, backbone: BackboneName, number: int) -> ModelSpec:
    """An adversarially trained network over the data's own classes, on images that are no victim's where there are such."""
    scratch = experiment.scenario == "from_scratch"
    split = clean_training_set(experiment) if scratch else experiment.public
    seed, recipe = model_seed(experiment, _ROBUST + number), experiment.robust_recipe
    classes = experiment.data.num_classes
    return ModelSpec(backbone, seed, recipe, split, classes, experiment.data, 0.0, experiment.threads)


def given_model(experiment: Experiment, backbone: BackboneName, path: Path) -> Backbone:
    """A surrogate whose weights the user gave.

    Raises:
        InputError: If they are of another architecture or another number of classes.
    """
    spec = robust_spec if experiment.attack.robust_surrogates else standard_spec
    model = spec(experiment, backbone, 0).build()
    load_weights(model, path, option="--surrogate_weights")
    return model


def knowledge(scenario: Scenario, victim: BackboneName, experiment: Experiment) -> str:
    """What the attacker knew of the victim: ``white box`` (its very extractor), ``grey box`` (its architecture), or neither."""
    known = victim in experiment.attacker_backbones
    if not known:
        return "black box"
    own = scenario != "from_scratch" and experiment.surrogate_weights is None and not experiment.attack.robust_surrogates
    return "white box" if own else "grey box"
