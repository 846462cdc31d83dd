"""What a backdoor's victims are tested on: the test split with the trigger, or with each setup's own."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from poison_and_defend.attacks.threat.backdoor_trigger import BackdoorTrigger
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.callbacks.ensemble_scores import Triggered
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.training.features import extract_features


@dataclass(frozen=True, eq=False)
class Tested:
    """Test inputs with the trigger, as victims take them.

    Attributes:
        shared: ``(T, ...)``, where all setups have one trigger; None without triggers, or where each has its own.
        triggers: Each setup's own, by its place, where they differ and victims take images.
        features: Each setup's own ``(T, F)``, by its place, where they differ and victims take features.
    """

    shared: Tensor | None = None
    triggers: Sequence[BackdoorTrigger] = ()
    features: Sequence[Tensor] = ()

    def of(self, setups: Sequence[int]) -> Tensor | Triggered | None:
        """For members of these setups, by place."""
        if self.features:
            return lambda member, inputs, rows: self.features[setups[member]][rows].to(inputs)
        if self.triggers:
            # On the way into the network: a copy of the test split for every setup would not fit.
            return lambda member, inputs, rows: self.triggers[setups[member]].stamp(inputs, rows)
        return self.shared


def triggered_inputs(
    plan: ExperimentPlan, poison_sets: Sequence[PoisonSet], extractor: Classifier | None, device: torch.device
) -> Tested:
    """The test split with the trigger of every setup, or its features if victims are heads on an extractor."""
    images = plan.data.split("test").images
    triggers = [poisons.trigger for poisons in poison_sets if poisons.trigger is not None]
    if not triggers:
        return Tested()
    rows = torch.arange(len(images))
    if all(trigger is triggers[0] or trigger.equals(triggers[0]) for trigger in triggers):
        triggered = triggers[0].stamp(images, rows)
        return Tested(triggered if extractor is None else extract_features(extractor, triggered, device))
    if extractor is None:
        return Tested(triggers=triggers)
    return Tested(features=[extract_features(extractor, trigger.stamp(images, rows), device) for trigger in triggers])
