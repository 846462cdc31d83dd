"""A surrogate at half precision: the arithmetic that modern processors do at twice the speed."""

import copy

import torch
from torch import Tensor

from poison_and_defend.attacks.threat.surrogate import Surrogate


class LowPrecision(Surrogate):
    """A copy of a surrogate that computes in bfloat16 with channels last, and takes and returns single precision.

    A copy, because kernels are chosen by memory layout too: the surrogate itself keeps giving the bits it gave before.
    Its parameters stay in single precision and are found under ``model.``.

    Args:
        model: The surrogate; later changes to it are not seen.
    """

    def __init__(self, model: Surrogate) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).to(memory_format=torch.channels_last)
        self.train(model.training)

    @property
    def stochastic(self) -> bool:
        """See :attr:`Surrogate.stochastic`."""
        return self.model.stochastic

    @stochastic.setter
    def stochastic(self, value: bool) -> None:
        self.model.stochastic = value

    @property
    def dropout(self) -> float:
        """Probability of the model's dropout, if it has any."""
        return float(getattr(self.model, "dropout", 0.0))

    def blocks(self, images: Tensor) -> list[Tensor]:
        """See :meth:`Surrogate.blocks`."""
        with self._autocast(images):
            return [block.float() for block in self.model.blocks(images)]

    def features(self, images: Tensor) -> Tensor:
        """See :meth:`Surrogate.features`."""
        with self._autocast(images):
            return self.model.features(images).float()

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, num_classes)``, single precision."""
        with self._autocast(images):
            logits: Tensor = self.model(images).float()
            return logits

    def _autocast(self, images: Tensor) -> torch.autocast:
        # Every weight is used once a pass, so that a cache of casts could only outlive the graph that it belongs to.
        return torch.autocast(images.device.type, torch.bfloat16, cache_enabled=False)


def full_precision(model: Surrogate) -> Surrogate:
    """The model itself, or what a :class:`LowPrecision` one wraps.

    For ``torch.func``, whose batching rules do not cover batch normalization under autocast.
    """
    return model.model if isinstance(model, LowPrecision) else model
