"""How a classifier is trained: one description for a single model and for an ensemble."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from poison_and_defend.core.bounds import above, at_least
from poison_and_defend.defenses.training.adversarial import Adversarial
from poison_and_defend.defenses.training.base import Training, is_plain


@dataclass
class Recipe:
    """Optimiser, schedule and augmentation.

    Args:
        epochs: Passes over the training set.
        batch_size: Rows per step, of one model.
        optimizer: Name of the optimiser, ``sgd``, ``adam`` or ``radam``.
        learning_rate: Learning rate at the start.
        momentum: Momentum of ``sgd``.
        nesterov: Whether the momentum of ``sgd`` is Nesterov's.
        weight_decay: L2 penalty.
        milestones: Shares of the epochs after which the rate falls by ``decay``; empty for a cosine to zero.
        decay: Factor of the rate at a milestone.
        max_shift: Largest random translation of training images as a share of the side; 0 for none.
        flip: Whether training images are mirrored at random.
        precision: Precision of the passes that train a network, ``bfloat16`` by autocast with channels last; weights, updates,
            linear heads and tests stay in single precision.
    """

    epochs: int = 40
    batch_size: int = 64
    optimizer: Literal["sgd", "adam", "radam"] = "sgd"
    learning_rate: float = 0.05
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    milestones: list[float] = field(default_factory=lambda: [0.35, 0.6, 0.875])
    decay: float = 0.1
    max_shift: float = 0.0
    flip: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for name, value in {"epochs": self.epochs, "batch_size": self.batch_size}.items():
            at_least(name, value, 1, f"--*recipe.{name} 1", of="of a recipe")
        above("learning_rate", self.learning_rate, 0, "--*recipe.learning_rate 0.05", of="of a recipe")

    @property
    def augments(self) -> bool:
        """Whether training images are seen through random views."""
        return self.max_shift > 0 or self.flip

    def computing(self, device: torch.device) -> AbstractContextManager[object]:
        """What passes that train a network run within."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16)

    def laid_out(self, images: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` as this precision's convolutions want them."""
        return images if self.precision == "float32" else images.contiguous(memory_format=torch.channels_last)

    def build_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser; elementwise, so that stacked parameters are optimised as if apart."""
        if self.optimizer == "adam":
            return torch.optim.Adam(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
        if self.optimizer == "radam":
            return torch.optim.RAdam(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
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

    def settings(self, defense: Training | None = None) -> dict[str, Any]:
        """As JSON can hold it: what a network's name, and all that is compared with it, depends on.

        Adversarial training has its keys here, where its arguments once were, so that networks keep their names.

        Args:
            defense: What its steps do otherwise; None for nothing.
        """
        own = asdict(self)
        if self.precision == "float32":
            # As networks were named before there was a choice.
            del own["precision"]
        if defense is None or is_plain(defense):
            return (
                own
                | {"adversarial_eps": 0.0, "adversarial_norm": "linf", "adversarial_steps": 7}
                | {"adversarial_step_size": 0.0}
            )
        if isinstance(defense, Adversarial):
            found = defense.settings()
            return own | {f"adversarial_{name}": found[name] for name in ("eps", "norm", "steps", "step_size")}
        return own | {"defense": defense.settings()}
