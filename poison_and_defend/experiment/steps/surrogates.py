"""Which networks an experiment needs: the attacker's surrogates and the frozen extractors that victims start from."""

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch.loggers import Logger

from poison_and_defend.attacks.crafting.precision import LowPrecision
from poison_and_defend.attacks.threat.surrogate import Surrogate
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.ranks import Ranks
from poison_and_defend.datamodules import Split
from poison_and_defend.experiment.task.networks import given_model, robust_spec, standard_spec
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.lightning_modules.backbones import Backbone, BackboneName
from poison_and_defend.training.features import frozen
from poison_and_defend.training.kept_models import trained_models


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
