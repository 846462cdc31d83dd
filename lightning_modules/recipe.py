"""How a classifier is trained: one description for a single model and for an ensemble."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from errors import InputError


@dataclass
class Recipe:
    """Optimiser, schedule and augmentation.

    Args:
        epochs: Passes over the training set.
        batch_size: Rows per step, of one model.
        optimizer: ``sgd`` or ``adam``.
        learning_rate: At the start.
        momentum: For ``sgd``.
        nesterov: For ``sgd``.
        weight_decay: L2 penalty.
        milestones: Shares of the epochs after which the rate falls by ``decay``; empty for a cosine to zero.
        decay: Factor at a milestone.
        max_shift: Largest random translation of training images as a share of the side; 0 for none.
        flip: Whether training images are mirrored at random.
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

    def __post_init__(self) -> None:
        for name, value, bound in (("epochs", self.epochs, 1), ("batch_size", self.batch_size, 1)):
            if value < bound:
                raise InputError(f"{name} of a recipe is {value}: it must be at least {bound}")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate of a recipe is {self.learning_rate:g}: it must be above 0")

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
        """As JSON can hold it."""
        return asdict(self)


def epoch_order(count: int, seed: int, epoch: int) -> torch.Tensor:
    """``(count,)`` int64: the order of training rows in an epoch, as torch's DistributedSampler draws it on one rank."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed + epoch))


def step_generator(seed: int, step: int) -> torch.Generator:
    """Generator of the augmentation of one step, counted from the start of training."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
