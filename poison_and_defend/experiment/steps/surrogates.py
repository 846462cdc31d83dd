"""Which networks an experiment needs: the attacker's surrogates and the frozen extractors that victims start from."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from poison_and_defend.attacks.base import Scenario
from poison_and_defend.attacks.crafting.precision import LowPrecision
from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.attacks.threat.surrogate import Retrain, Surrogate
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.ranks import Ranks
from poison_and_defend.datamodules import Split
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.lightning_modules.backbones import Backbone, BackboneName
from poison_and_defend.lightning_modules.classifier import load_weights
from poison_and_defend.lightning_modules.ensemble import EnsembleData
from poison_and_defend.training.members import ModelSpec, fit_members, frozen, trained_models

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


def extractor(experiment: Experiment, backbone: BackboneName, ranks: Ranks, logger: Logger | None = None) -> Backbone:
    """What victims of an architecture start from in transfer learning and fine-tuning."""
    spec = standard_spec(experiment, backbone, 0)
    return trained_models([spec], experiment.models_folder, ranks, "features", logger)[0]


def attacker_models(experiment: Experiment, ranks: Ranks, logger: Logger | None = None) -> list[Surrogate]:
    """The attacker's surrogates, in the precision that crafting uses."""
    backbones = experiment.attacker_backbones
    models: Sequence[Backbone]
    if experiment.surrogate_weights is not None:
        pairs = zip(backbones, experiment.surrogate_weights, strict=True)
        models = [frozen(given_model(experiment, backbone, Path(path)), ranks.device) for backbone, path in pairs]
    else:
        spec = robust_spec if experiment.attack.robust_surrogates else standard_spec
        specs = [spec(experiment, backbone, number) for backbone in backbones for number in range(experiment.surrogates)]
        kind = "adversarially trained" if experiment.attack.robust_surrogates else "surrogate"
        models = trained_models(specs, experiment.models_folder, ranks, kind, logger)
        if experiment.attack.robust_surrogates:
            _check_answers(models, specs[0].split, ranks)
    return [LowPrecision(model) if experiment.precision == "bfloat16" else model for model in models]


@torch.no_grad()
def _check_answers(models: Sequence[Backbone], split: Split, ranks: Ranks) -> None:
    """Adversarial training can leave a network with one answer for all images, against which no ascent has a direction."""
    images = split.images[:256].to(ranks.device).float() / 255
    for number, model in enumerate(models):
        if len(model(images).argmax(1).unique()) == 1 and len(split.labels[:256].unique()) > 1:
            raise InputError(
                f"adversarially trained surrogate {number} answers every image alike: train it with a smaller budget, more "
                "epochs or Adam (--robust_recipe.adversarial_eps, --robust_recipe.epochs, --robust_recipe.optimizer)"
            )


def given_model(experiment: Experiment, backbone: BackboneName, path: Path) -> Backbone:
    """A surrogate whose weights the user gave.

    Raises:
        InputError: If they are of another architecture or another number of classes.
    """
    spec = robust_spec if experiment.attack.robust_surrogates else standard_spec
    model = spec(experiment, backbone, 0).build()
    load_weights(model, path, option="--surrogate_weights")
    return model


def retrainer(experiment: Experiment, ranks: Ranks) -> Retrain:
    """Surrogates from new initialisations, trained on what each setup's victim would train on; one rank by itself."""
    train, rounds = experiment.data.split("train"), count(1)
    alone = Ranks(device=ranks.device)

    def retrain(setups: Sequence[Setup], poisons: Tensor) -> list[list[Surrogate]]:
        images = (poisons.detach().cpu() * 255).round().to(torch.uint8)
        rows = torch.stack([torch.from_numpy(setup.rows(len(train))).clone() for setup in setups])
        pool_rows = torch.cat([train.labels, *(train.labels[torch.from_numpy(s.base_indices)] for s in setups)])
        for place, setup in enumerate(setups):
            width = len(setup.base_indices)
            rows[place, torch.from_numpy(setup.positions)] = len(train) + place * width + torch.arange(width)
        pool = torch.cat([train.images, images.flatten(0, 1)])
        number, result = next(rounds), [list[Surrogate]() for _ in setups]
        for backbone in experiment.attacker_backbones:
            spec = standard_spec(experiment, backbone, 0)
            for own in range(experiment.surrogates):
                seeds = [setup.seed ^ (1_000_003 * (number * 1000 + own)) for setup in setups]
                states = fit_members(
                    spec.build,
                    seeds,
                    EnsembleData(pool, pool_rows, rows),
                    experiment.feature_recipe,
                    alone,
                    per_block=experiment.members_per_block,
                    threads=experiment.threads,
                    text="",
                )
                for place, state in states.items():
                    model = spec.build()
                    model.load_state_dict(state, strict=False)
                    model = frozen(model, ranks.device)
                    result[place].append(LowPrecision(model) if experiment.precision == "bfloat16" else model)
        return result

    return retrain


def knowledge(scenario: Scenario, victim: BackboneName, experiment: Experiment) -> str:
    """What the attacker knew of the victim: ``white box`` (its very extractor), ``grey box`` (its architecture), or neither."""
    known = victim in experiment.attacker_backbones
    if not known:
        return "black box"
    own = scenario != "from_scratch" and experiment.surrogate_weights is None and not experiment.attack.robust_surrogates
    return "white box" if own else "grey box"
