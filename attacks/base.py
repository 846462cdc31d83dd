"""The interface of every attack: many setups in, one PoisonSet each out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from attacks.budget import Budget, Norm, parse_eps
from attacks.poison_set import PoisonSet
from attacks.setups import Setup
from errors import InputError

Scenario = Literal["transfer", "from_scratch"]


class Surrogate(nn.Module, ABC):
    """The attacker's model, as far as an attack sees it: images in [0, 1] to features and to logits."""

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Penultimate features ``(N, F)`` of float images ``(N, C, H, W)`` in [0, 1]."""


@dataclass(frozen=True, eq=False)
class CraftBatch:
    """What crafting sees of S setups with k bases each, on one device.

    Attributes:
        bases: ``(S, k, C, H, W)`` float in [0, 1].
        base_labels: ``(S, k)`` int64, all equal to the setup's adversarial label.
        targets: ``(S, C, H, W)`` float in [0, 1].
        seeds: One per setup; randomness is drawn per setup. Poisons depend on the neighbours in a batch by rounding alone,
            which an optimiser can amplify: keep batches fixed where bytes must repeat.
    """

    bases: Tensor
    base_labels: Tensor
    targets: Tensor
    seeds: tuple[int, ...]

    def generators(self, stream: int = 0) -> list[torch.Generator]:
        """One CPU generator per setup; ``stream`` tells apart the uses within one attack."""
        return [torch.Generator().manual_seed((seed + stream) % 2**63) for seed in self.seeds]


class Attack(ABC):
    """A clean-label poisoning attack.

    Args:
        eps: Budget radius in [0, 1] pixel units, a number or a fraction such as ``8/255``.
        norm: ``linf`` or ``l2``.
        steps: Number of optimiser steps.

    Raises:
        InputError: If an argument is out of its range.
    """

    scenarios: ClassVar[frozenset[Scenario]]
    """The threat models in which the attack makes sense; others are refused before anything is trained."""

    name: ClassVar[str]
    """Name in records, on the command line and in file names."""

    def __init__(self, eps: float | str, norm: Norm, steps: int) -> None:
        if steps < 1:
            raise InputError(f"steps is {steps}: an attack takes at least 1 step (--attack.steps)")
        self.budget = Budget(norm, parse_eps(eps))
        self.steps = steps

    @abstractmethod
    def perturb(
        self, batch: CraftBatch, surrogates: Sequence[Surrogate], progress: Callable[[Tensor], None]
    ) -> tuple[Tensor, Tensor]:
        """Optimise the poisons of all setups in the batch together.

        Args:
            progress: Called after every step with the objective of each setup, ``(S,)``.

        Returns:
            Poisons ``(S, k, C, H, W)`` float in the budget, and the final objective ``(S,)``, lower is better.
        """

    def arguments(self) -> dict[str, Any]:
        """The attack's settings as JSON can hold them, for records and for telling runs apart."""
        plain = {key: value for key, value in vars(self).items() if isinstance(value, (int, float, str, bool))}
        return {"name": self.name, "norm": self.budget.norm, "eps": self.budget.eps, **plain}

    def craft(
        self,
        setups: Sequence[Setup],
        train_images: Tensor,
        train_labels: Tensor,
        test_images: Tensor,
        surrogates: Sequence[Surrogate],
        *,
        device: torch.device | str = "cpu",
        progress: Callable[[Tensor], None] = lambda objective: None,
    ) -> list[PoisonSet]:
        """Craft, round to 8 bits and validate the poisons of every setup, all in one batch.

        Args:
            setups: All with the same number of bases.
            train_images: ``(N, C, H, W)`` uint8.
            train_labels: ``(N,)`` int64.
            test_images: ``(T, C, H, W)`` uint8.
            surrogates: The attacker's models, in evaluation mode on ``device``; their parameters are not changed.
        """
        self.budget.check_shape(tuple(train_images.shape[1:]))
        rows = torch.stack([torch.from_numpy(s.base_indices) for s in setups])
        bases = train_images[rows]
        targets = test_images[[s.target_index for s in setups]]
        batch = CraftBatch(
            bases=bases.to(device).float() / 255,
            base_labels=train_labels[rows].to(device),
            targets=targets.to(device).float() / 255,
            seeds=tuple(s.seed for s in setups),
        )
        crafted, objective = self.perturb(batch, surrogates, progress)
        images = self.budget.quantize(crafted.detach().cpu(), bases)
        return [
            PoisonSet(setup, image, base, target, self.budget, self.arguments(), float(value))
            for setup, image, base, target, value in zip(setups, images, bases, targets, objective.tolist(), strict=True)
        ]
