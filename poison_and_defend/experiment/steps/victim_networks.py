"""How the victims of one architecture are made, before any training set is known."""

from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote

import torch
from torch import nn

from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.defenses.training.course import State
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.lightning_modules.classifier import fresh_head
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.identity import network_identity
from poison_and_defend.training.kept_features import KeptFeatures


@dataclass(frozen=True, eq=False)
class VictimNetworks:
    """Victims of one architecture.

    Attributes:
        victim: Its name.
        base: The frozen extractor that all start from, None from scratch.
    """

    plan: ExperimentPlan
    victim: str
    base: Classifier | None

    @property
    def shared(self) -> bool:
        """Whether all share one frozen extractor, and are linear heads."""
        return self.plan.scenario == "transfer"

    @property
    def fine_tuned(self) -> bool:
        """Whether whole networks start from the extractor; batch normalization then keeps its statistics."""
        return self.plan.scenario == "fine_tune"

    @property
    def file_name(self) -> str:
        """The architecture's name as that of a file."""
        return quote(self.victim, safe="")

    def kept_features(self, ranks: Ranks) -> KeptFeatures:
        """What computes features of the shared extractor; those of networks that are taken as they come are kept."""
        plan, base = self.plan, self.base
        assert base is not None
        identity = None
        if plan.networks.frozen:
            statistics = [base.mean.flatten().tolist(), base.std.flatten().tolist()]
            identity = [network_identity(plan.networks.described[self.victim]), statistics]
        return KeptFeatures(base, identity, plan.features, ranks)

    def build(self, seed: int) -> nn.Module:
        """An untrained victim: a linear head in transfer learning, else a whole network."""
        if self.shared and self.base is not None:
            return fresh_head(self.base.num_features, self.plan.data.num_classes, seed)
        return self._network(seed)

    def looked_through(self, device: torch.device) -> Classifier | None:
        """The shared extractor with its batch normalization, which the form that features come through may have lost.

        Args:
            device: Where it is to compute, if it has to be built anew.
        """
        if self.base is None or not self.plan.networks.frozen:
            return self.base
        return self._as_built.to(device)

    @cached_property
    def _as_built(self) -> Classifier:
        data, network = self.plan.data, self.plan.networks.described[self.victim]
        shape: dict[str, Any] = {"in_channels": data.image_shape[0], "num_classes": data.num_classes}
        return build_network(network, **shape, mean=data.mean, std=data.std).eval().requires_grad_(False)

    def with_state(self, state: State) -> Classifier:
        """The whole network of a trained victim, in evaluation mode."""
        if self.shared and self.base is not None:
            model = deepcopy(self.base)
            model.head = fresh_head(model.num_features, self.plan.data.num_classes, 0)
            model.head.load_state_dict(state)
        else:
            model = self._network(0)
            model.load_state_dict(state)
        return model.eval().requires_grad_(False)

    def _network(self, seed: int) -> Classifier:
        data = self.plan.data
        shape: dict[str, Any] = {"in_channels": data.image_shape[0], "num_classes": data.num_classes}
        model = build_network(self.plan.networks.described[self.victim], **shape, mean=data.mean, std=data.std, seed=seed)
        if self.base is not None:
            model.body.load_state_dict(self.base.body.state_dict())
            model.head = fresh_head(model.num_features, data.num_classes, seed)
        return model
