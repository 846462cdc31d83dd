"""What an attack is given: the attacker's models, and the images of several setups at once."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poison_and_defend.attacks.threat.backdoor_trigger import BackdoorTrigger
from poison_and_defend.attacks.threat.sanitizing import Sanitizing
from poison_and_defend.attacks.threat.setups import Setup


class Surrogate(nn.Module, ABC):
    """The attacker's model, as far as an attack sees it: images in [0, 1] to features and to logits."""

    stochastic: bool = False
    """Whether dropout is on in evaluation mode too, as some attacks want while crafting."""

    @abstractmethod
    def blocks(self, images: Tensor) -> list[Tensor]:
        """Flattened outputs ``(N, F_b)`` of every block for float images ``(N, C, H, W)`` in [0, 1]; features are the last."""

    def features(self, images: Tensor) -> Tensor:
        """Penultimate features ``(N, F)`` of float images ``(N, C, H, W)`` in [0, 1]."""
        return self.blocks(images)[-1]


Retrain = Callable[[Sequence[Setup], Tensor], list[list[Surrogate]]]
"""Setups and their poisons ``(S, k, C, H, W)`` float to surrogates newly trained on each poisoned set, one list a setup."""


@dataclass(frozen=True, eq=False)
class AdversarialClass:
    """What an attacker has who knows one class of the victim's data and, besides, only public data of other classes.

    Attributes:
        images: ``(n, C, H, W)`` uint8 on the CPU: all training images of the class that the victim gets, before poisoning.
        surrogates: Networks with an output for every public class, and a last one for this class.
        rows: ``(n,)`` int64 on the CPU: the images' rows in the training set.
    """

    images: Tensor
    surrogates: Sequence[Surrogate]
    rows: Tensor


@dataclass(frozen=True, eq=False)
class CraftBatch:
    """What crafting sees of S setups with k bases each, on one device.

    Attributes:
        bases: ``(S, k, C, H, W)`` float in [0, 1].
        base_labels: ``(S, k)`` int64, all equal to the setup's adversarial label.
        targets: ``(S, T, C, H, W)`` float in [0, 1]: the target, or several images of what is to be misread.
        seeds: One per setup; randomness is drawn per setup. Poisons depend on the neighbours in a batch by rounding alone,
            which an optimiser can amplify: keep batches fixed where bytes must repeat.
        sources: ``(S, n, C, H, W)`` float in [0, 1]: training images of the source class, with the trigger; for backdoors
            that need them.
        trigger: What a backdoor stamps.
        retrain: Poisons ``(S, k, C, H, W)`` to surrogates trained on each setup's poisoned set, one list a setup.
        classes: One per setup: its adversarial class, for attacks that know no other.
        rows: ``(S, k)`` int64 on the CPU: the bases' rows in the training set; None where nobody says.
        sanitizing: What poisons go through before a victim trains on them, as far as the attacker knows; None for nothing.
        watch: Told, in between, of the objective ``(S,)`` through that on draws that no step sees, and after how many steps.
    """

    bases: Tensor
    base_labels: Tensor
    targets: Tensor
    seeds: tuple[int, ...]
    sources: Tensor | None = None
    trigger: BackdoorTrigger | None = None
    retrain: Callable[[Tensor], list[list[Surrogate]]] | None = None
    classes: tuple[AdversarialClass, ...] = ()
    rows: Tensor | None = None
    sanitizing: Sanitizing | None = None
    watch: Callable[[int, Tensor], None] | None = None

    @property
    def keys(self) -> Tensor:
        """``(S, k)`` int64 on the CPU: what the randomness of a defence is keyed by, the rows where they are known."""
        setups, count = self.bases.shape[:2]
        return torch.arange(count).expand(setups, -1) if self.rows is None else self.rows

    def generators(self, stream: int = 0) -> list[torch.Generator]:
        """One CPU generator per setup; ``stream`` tells apart the uses within one attack."""
        return [torch.Generator().manual_seed((seed + stream) % 2**63) for seed in self.seeds]
