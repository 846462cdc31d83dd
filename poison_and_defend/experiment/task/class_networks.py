"""Surrogates of an attacker who knows one class of the victim's data, and public data of other classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from poison_and_defend.attacks.threat.known_classes import OneClass
from poison_and_defend.datamodules import Split
from poison_and_defend.experiment.task.networks import Networks
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.training.kept_models import ModelSpec


@dataclass(frozen=True, eq=False)
class ClassNetworks:
    """What they depend on; their outputs are the public classes and, as the last one, the adversarial class.

    Attributes:
        networks: Architectures, seeds and the recipe that they are trained by first.
        public: Data of ``num_public`` classes that are none of the victim's.
        train: The victim's training split.
        rows: ``(U,)`` int64, the rows of ``train`` that any victim trains on, of which the attacker knows one class.
        known: When that class comes in.
    """

    networks: Networks
    public: Split
    num_public: int
    train: Split
    rows: NDArray[np.int64]
    known: OneClass

    def surrogates(self, label: int) -> list[ModelSpec]:
        """All that the attacker trains whose adversarial class is ``label``."""
        networks = self.networks
        return [self._surrogate(label, name, own) for name in networks.attackers for own in range(networks.per_attacker)]

    def _surrogate(self, label: int, name: str, number: int) -> ModelSpec:
        own = self._class(label)
        split = _joined([self.public, own]) if self.known.in_training else self.public
        first = replace(self.networks.standard(name, number), split=split, num_classes=self.num_public + 1)
        return first if self.known.warm_up_epochs == 0 else replace(first, recipe=self._warm_up(), split=own, start=first)

    def _warm_up(self) -> Recipe:
        known, recipe = self.known, self.networks.recipe
        return replace(
            recipe,
            epochs=known.warm_up_epochs,
            batch_size=known.warm_up_batch,
            optimizer="radam",
            learning_rate=known.warm_up_rate,
            weight_decay=0.0,
            milestones=[1.0],  # after the last epoch: the rate stays
        )

    def _class(self, label: int) -> Split:
        """The adversarial class's images under the last output's number."""
        own = self.train.subset(self.rows[self.train.labels.numpy()[self.rows] == label])
        return Split(own.images, torch.full_like(own.labels, self.num_public))


def _joined(splits: Sequence[Split]) -> Split:
    return Split(torch.cat([split.images for split in splits]), torch.cat([split.labels for split in splits]))
