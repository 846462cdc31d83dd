"""Classifier networks for small images: features first, one linear head last, normalization inside."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
import torchvision
from torch import Tensor, nn

from attacks.base import Surrogate
from errors import InputError

BackboneName = Literal["convnet", "convnet_wide", "patchnet", "resnet18", "vgg11", "mobilenet_v2"]
BACKBONES: tuple[BackboneName, ...] = get_args(BackboneName)


class Backbone(Surrogate):
    """A body that gives penultimate features and a linear head over them.

    Args:
        body: Normalized images ``(N, C, H, W)`` to features ``(N, F)``.
        num_features: F.
        num_classes: Classes of the head.
        mean: Per-channel mean of images in [0, 1].
        std: Per-channel standard deviation, likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, body: nn.Module, num_features: int, num_classes: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(num_features, num_classes)
        self.num_features = num_features
        # Not persistent: they describe the data, and a change of data must not be hidden in a weights file.
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """Penultimate features ``(N, F)`` of float images ``(N, C, H, W)`` in [0, 1]."""
        features: Tensor = self.body((images - self.mean) / self.std)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of float images in [0, 1]."""
        logits: Tensor = self.head(self.features(images))
        return logits


def _convnet(channels: int) -> tuple[nn.Module, int]:
    """Three convolutions with group normalization and pooling, 64 features: 0.1 M parameters, for 32-pixel digits."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.ReLU(), nn.MaxPool2d(2)]

    body = nn.Sequential(
        *block(channels, 16),
        *block(16, 32),
        *block(32, 32),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
    )
    return body, 64


def _convnet_wide(channels: int) -> tuple[nn.Module, int]:
    """Three convolutions with batch normalization, 128 features: 0.4 M parameters, what a CPU can train on CIFAR-10."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]

    blocks = [*block(channels, 32), *block(32, 64), *block(64, 128)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(2048, 128), nn.ReLU()), 128


def _patchnet(channels: int) -> tuple[nn.Module, int]:
    """Two strided 5 x 5 convolutions without normalization, 64 features: 0.06 M parameters, quick to train from scratch."""
    body = nn.Sequential(
        nn.Conv2d(channels, 32, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(32, 32, 5, stride=4, padding=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(),
    )  # fmt: skip
    return body, 64


def _resnet18(channels: int) -> tuple[nn.Module, int]:
    """torchvision's, with the usual 3 x 3 stride-1 stem and no first pooling."""
    net = torchvision.models.resnet18()
    net.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    net.fc = nn.Identity()
    return net, 512


def _vgg11(channels: int) -> tuple[nn.Module, int]:
    """Torchvision's with batch normalization, its three dense layers replaced by pooling: 512 features."""
    features = torchvision.models.vgg11_bn().features
    features[0] = nn.Conv2d(channels, 64, 3, padding=1)
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 512


def _mobilenet_v2(channels: int) -> tuple[nn.Module, int]:
    """Torchvision's with stride 1 in the stem and in the first strided block, as usual for 32-pixel images."""
    features = torchvision.models.mobilenet_v2().features
    features[0][0] = nn.Conv2d(channels, 32, 3, padding=1, bias=False)
    features[2].conv[1][0].stride = (1, 1)
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 1280


_BODIES: dict[BackboneName, Callable[[int], tuple[nn.Module, int]]] = {
    "convnet": _convnet,
    "convnet_wide": _convnet_wide,
    "patchnet": _patchnet,
    "resnet18": _resnet18,
    "vgg11": _vgg11,
    "mobilenet_v2": _mobilenet_v2,
}


def build_backbone(
    name: BackboneName,
    *,
    in_channels: int,
    num_classes: int,
    mean: Sequence[float] = (0.5,),
    std: Sequence[float] = (0.5,),
    seed: int = 0,
) -> Backbone:
    """Build a backbone with weights that depend on ``seed`` alone; the global generator is left as it was.

    Raises:
        InputError: If the name is unknown.
    """
    if name not in _BODIES:
        raise InputError(f"{name!r} is not a backbone: choose from {', '.join(BACKBONES)} (--backbone)")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        body, num_features = _BODIES[name](in_channels)
        for module in body.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out" if name == "resnet18" else "fan_in", nonlinearity="relu")
        return Backbone(body, num_features, num_classes, mean, std)
