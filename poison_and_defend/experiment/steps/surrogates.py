"""The attacker's surrogates and the frozen extractors that victims start from, trained once and kept."""

from collections.abc import Sequence

import torch
from lightning.pytorch.loggers import Logger

from poison_and_defend.attacks.crafting.precision import LowPrecision
from poison_and_defend.attacks.threat.surrogate import Surrogate
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.datamodules import Split
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.frozen import frozen_form
from poison_and_defend.training.features import frozen
from poison_and_defend.training.kept_models import trained_models


def extractor(plan: ExperimentPlan, network: str, ranks: Ranks, logger: Logger | None = None) -> Classifier:
    """What victims of an architecture start from in transfer learning and fine-tuning."""
    model = trained_models([plan.networks.standard(network)], plan.models, ranks, "features", logger)[0]
    return _fast(plan, model, ranks) if plan.networks.frozen else model


def _fast(plan: ExperimentPlan, model: Classifier, ranks: Ranks) -> Classifier:
    channels, side, _ = plan.data.image_shape
    return frozen_form(model, channels, side, ranks.device)


def attacker_models(plan: ExperimentPlan, ranks: Ranks, logger: Logger | None = None) -> list[Surrogate]:
    """The attacker's surrogates, in the precision that crafting uses."""
    networks = plan.networks
    models: Sequence[Classifier]
    if networks.weights:
        models = [frozen(model, ranks.device) for model in networks.given()]
    else:
        if networks.frozen and not networks.robust:
            # Of one architecture there is one network.
            return [extractor(plan, name, ranks, logger) for name in networks.attackers]
        specs = networks.surrogates()
        kind = "adversarially trained" if networks.robust else "surrogate"
        models = trained_models(specs, plan.models, ranks, kind, logger)
        if networks.robust:
            _check_answers(models, specs[0].split, ranks)
    return [LowPrecision(model) if networks.low_precision else model for model in models]


def class_models(plan: ExperimentPlan, ranks: Ranks, logger: Logger | None = None) -> dict[int, list[Surrogate]]:
    """Surrogates of an attacker who knows one class, by adversarial label; empty for other attackers.

    One label after the other: each has its own copy of the public images beside its class's.
    """
    found: dict[int, list[Surrogate]] = {}
    if plan.class_networks is None:
        return found
    for label in sorted({setup.adversarial_label for setup in plan.setups}):
        specs = plan.class_networks.surrogates(label)
        trained_models([spec.start for spec in specs if spec.start is not None], plan.models, ranks, "surrogate", logger)
        models = trained_models(specs, plan.models, ranks, f"class {label}", logger)
        found[label] = [LowPrecision(model) if plan.networks.low_precision else model for model in models]
    return found


@torch.no_grad()
def _check_answers(models: Sequence[Classifier], split: Split, ranks: Ranks) -> None:
    """Adversarial training can leave a network with one answer for all images, against which no ascent has a direction."""
    images = split.images[:256].to(ranks.device).float() / 255
    for number, model in enumerate(models):
        if len(model(images).argmax(1).unique()) == 1 and len(split.labels[:256].unique()) > 1:
            raise InputError(
                f"adversarially trained surrogate {number} answers every image alike: train it with a smaller budget, more "
                "epochs or Adam (--robust_training.eps, --robust_recipe.epochs, --robust_recipe.optimizer)"
            )
