"""A classifier as attacks, ensembles and stores see it: images in [0, 1] to features, and a linear head over them."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from poison_and_defend.attacks.threat.surrogate import Surrogate


@dataclass(frozen=True)
class Inputs:
    """What happens to images before the first layer.

    Attributes:
        mean: Per-channel mean of images in [0, 1], one number or one a channel.
        std: Per-channel standard deviation of images in [0, 1], one number or one a channel.
        size: Height and width that they are resized to, None for their own.
        interpolation: How images are resized, ``bilinear`` or ``bicubic``.
        repeat: How often a single channel is repeated, for networks that take colours alone.
    """

    mean: Sequence[float] = (0.5,)
    std: Sequence[float] = (0.5,)
    size: int | None = None
    interpolation: str = "bilinear"
    repeat: int = 1


class Classifier(Surrogate):
    """A body that ends in penultimate features, and a linear head over them.

    Args:
        body: Normalized images ``(N, C, H, W)`` to features ``(N, F)``.
        head: Features to logits.
        inputs: What happens to images first; all of it is differentiable, so that attacks act on the images as they are.
        dropout: Probability, between blocks.
    """

    mean: Tensor
    std: Tensor
    precision: torch.dtype | None = None
    """What the body computes in, channels last; None for whatever it is given. Features are single precision at least."""
    resizing: Tensor | None
    """``(size, side)``: what resizes a column of ``side`` pixels; None for torch's function, which is slower."""

    def __init__(self, body: nn.Module, head: nn.Linear, inputs: Inputs, dropout: float = 0.0) -> None:
        super().__init__()
        self.body, self.head = body, head
        self.num_features, self.dropout = head.in_features, dropout
        self.size, self.interpolation, self.repeat = inputs.size, inputs.interpolation, inputs.repeat
        # Not persistent: they describe the data, and a change of data must not be hidden in a weights file.
        self.register_buffer("mean", torch.tensor(inputs.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("resizing", None, persistent=False)
        self.register_buffer("std", torch.tensor(inputs.std).view(-1, 1, 1), persistent=False)

    @property
    def dropping(self) -> bool:
        """Whether dropout is on."""
        return bool(self.dropout) and (self.training or self.stochastic)

    def prepared(self, images: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` float in [0, 1] as the first layer takes them."""
        if self.size is not None and images.shape[-2:] != (self.size, self.size):
            if self.resizing is not None and images.shape[-2:] == (self.resizing.shape[1],) * 2:
                with torch.autocast(images.device.type, enabled=False):
                    images = self.resizing @ images.float() @ self.resizing.T
            else:
                images = functional.interpolate(images, (self.size, self.size), mode=self.interpolation, antialias=True)
        if self.repeat > 1:
            images = images.expand(-1, self.repeat, -1, -1)
        images = (images - self.mean) / self.std
        return images if self.precision is None else images.to(self.precision, memory_format=torch.channels_last)

    def blocks(self, images: Tensor) -> list[Tensor]:
        """See :meth:`Surrogate.blocks`."""
        return [self.features(images)]

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Penultimate features ``(N, F)`` of float images ``(N, C, H, W)`` in [0, 1]."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of float images in [0, 1]."""
        logits: Tensor = self.head(self.features(images))
        return logits


def widened(features: Tensor) -> Tensor:
    """The same numbers in single precision, if they have less."""
    return features.to(torch.promote_types(features.dtype, torch.float32))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while, and back."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
