"""How a classifier is trained: one description for a single model and for an ensemble."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from poison_and_defend.attacks.crafting.pgd import default_step_size
from poison_and_defend.attacks.threat.budget import Budget, Norm
from poison_and_defend.core.bounds import above, at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.lengths import parse_length


@dataclass
class Recipe:
    """Optimiser, schedule, augmentation and adversarial training.

    Args:
        epochs: Passes over the training set.
        batch_size: Rows per step, of one model.
        optimizer: Name of the optimiser, ``sgd`` or ``adam``.
        learning_rate: Learning rate at the start.
        momentum: Momentum of ``sgd``.
        nesterov: Whether the momentum of ``sgd`` is Nesterov's.
        weight_decay: L2 penalty.
        milestones: Shares of the epochs after which the rate falls by ``decay``; empty for a cosine to zero.
        decay: Factor of the rate at a milestone.
        max_shift: Largest random translation of training images as a share of the side; 0 for none.
        flip: Whether training images are mirrored at random.
        adversarial_eps: Radius in [0, 1] pixel units within which every training image is replaced by one that the current
            weights find hard (Madry et al., 2018); a number or a fraction such as ``8/255``, 0 for ordinary training.
        adversarial_norm: Norm of that radius, ``linf`` or ``l2``.
        adversarial_steps: Ascent steps per batch, each about as long as a training step.
        adversarial_step_size: Length of one ascent step; null for 2.5 radii over all steps.
    """

    epochs: int = 40
    batch_size: int = 64
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.05
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    milestones: list[float] = field(default_factory=lambda: [0.35, 0.6, 0.875])
    decay: float = 0.1
    max_shift: float = 0.0
    flip: bool = False
    adversarial_eps: float | str = 0.0
    adversarial_norm: Norm = "linf"
    adversarial_steps: int = 7
    adversarial_step_size: float | str | None = None

    def __post_init__(self) -> None:
        counts = {"epochs": self.epochs, "batch_size": self.batch_size, "adversarial_steps": self.adversarial_steps}
        for name, value in counts.items():
            at_least(name, value, 1, f"--*recipe.{name} 1", of="of a recipe")
        above("learning_rate", self.learning_rate, 0, "--*recipe.learning_rate 0.05", of="of a recipe")
        if self.adversarial_norm not in ("linf", "l2"):
            raise InputError(
                f"adversarial_norm of a recipe is {self.adversarial_norm!r}: it is linf or l2 (--*recipe.adversarial_norm)"
            )
        eps, size = _radius("adversarial_eps", self.adversarial_eps), self.adversarial_step_size
        if eps != 0 and eps * 255 < 1 - 1e-6:
            raise InputError(
                f"adversarial_eps of a recipe is {eps:g}: it is 0, for none, or at least 1/255 (--*recipe.adversarial_eps)"
            )
        if self.adversarial_norm == "linf" and eps > 1:
            raise InputError(
                f"adversarial_eps of a recipe is {eps:g}: for linf it is at most 1, the whole pixel range "
                "(--*recipe.adversarial_eps)"
            )
        if size is not None and _radius("adversarial_step_size", size) == 0:
            raise InputError(
                "adversarial_step_size of a recipe is 0: it must be above 0, or null for 2.5 eps / steps "
                "(--*recipe.adversarial_step_size)"
            )

    @property
    def adversarial_budget(self) -> Budget | None:
        """What adversarial training searches in; None for ordinary training."""
        eps = parse_length(self.adversarial_eps)
        return Budget(self.adversarial_norm, eps) if eps else None

    @property
    def adversarial_step(self) -> float:
        """Length of one ascent step in [0, 1] pixel units."""
        if self.adversarial_step_size is None:
            return default_step_size(parse_length(self.adversarial_eps), self.adversarial_steps)
        return parse_length(self.adversarial_step_size)

    def build_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser; elementwise, so that stacked parameters are optimised as if apart."""
        if self.optimizer == "adam":
            return torch.optim.Adam(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
        return torch.optim.SGD(
            parameters,
            lr=self.learning_rate,
            momentum=self.momentum,
            nesterov=self.nesterov and self.momentum > 0,
            weight_decay=self.weight_decay,
        )

    def build_scheduler(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        """The schedule, stepped once an epoch."""
        if self.milestones:
            epochs = [max(1, round(share * self.epochs)) for share in self.milestones]
            return torch.optim.lr_scheduler.MultiStepLR(optimizer, epochs, self.decay)
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs)

    def settings(self) -> dict[str, Any]:
        """As JSON can hold it, fractions as numbers: however a radius is written, the run is the same."""
        radii = {"adversarial_eps": parse_length(self.adversarial_eps), "adversarial_step_size": self.adversarial_step}
        return asdict(self) | radii


def _radius(name: str, value: float | str) -> float:
    radius = parse_length(value)
    if not (math.isfinite(radius) and radius >= 0):
        raise InputError(
            f"{name} of a recipe is {value!r}: it is a number or a fraction such as 8/255, not below 0 (--*recipe.{name})"
        )
    return radius


def epoch_order(count: int, seed: int, epoch: int) -> torch.Tensor:
    """``(count,)`` int64: the order of training rows in an epoch, as torch's DistributedSampler draws it on one rank."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed + epoch))


def step_generator(seed: int, step: int, stream: int = 0) -> torch.Generator:
    """Generator of one step, counted from the start of training; stream 0 is the augmentation's, 1 adversarial training's."""
    # 2**31, not more: torch's CPU generator looks at the seed's lowest 32 bits alone.
    return torch.Generator().manual_seed((seed * 1_000_003 + step + stream * 2**31) % 2**63)
