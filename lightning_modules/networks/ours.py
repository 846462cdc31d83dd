"""The networks for small images that this project brings."""

from collections.abc import Callable, Iterator

import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock

from poison_and_defend.lightning_modules.networks.base import Classifier, Inputs, widened


class Blocks(Classifier):
    """A classifier of blocks in order, each of which end-to-end attacks look at, and with dropout before each.

    Args:
        body: Blocks in order, normalized images ``(N, C, H, W)`` to features ``(N, F)``.
        head: Features to logits.
        inputs: What happens to images first.
        dropout: Probability, between blocks.
    """

    body: nn.Sequential

    def _outputs(self, images: Tensor) -> Iterator[Tensor]:
        outputs = self.prepared(images)
        for block in self.body:
            # Zhu et al. (2019) train and craft with dropout between the blocks of their substitutes.
            if self.dropping:
                outputs = functional.dropout(outputs, self.dropout)
            outputs = block(outputs)
            yield outputs

    def blocks(self, images: Tensor) -> list[Tensor]:
        """See :meth:`Surrogate.blocks`."""
        return [widened(outputs.flatten(1)) for outputs in self._outputs(images)]

    def features(self, images: Tensor) -> Tensor:
        """Penultimate features ``(N, F)`` of float images ``(N, C, H, W)`` in [0, 1]."""
        *_, features = self._outputs(images)
        return widened(features)


class _PoolToFour(nn.AdaptiveAvgPool2d):
    """Means over a grid of 4 x 4; images that are of this size pass as they are, where the kernel would copy each pixel."""

    def __init__(self) -> None:
        super().__init__(4)

    def forward(self, images: Tensor) -> Tensor:
        return images if images.shape[-2:] == (4, 4) else super().forward(images)


Body = tuple[nn.Sequential, int]


def _convnet(channels: int) -> Body:
    """Three convolutions with group normalization and pooling, 64 features: 0.05 M parameters, for 32-pixel digits."""

    def block(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.ReLU(), nn.MaxPool2d(2))

    last = nn.Sequential(_PoolToFour(), nn.Flatten(), nn.Linear(512, 64), nn.ReLU())
    return nn.Sequential(block(channels, 16), block(16, 32), block(32, 32), last), 64


def _convnet_wide(channels: int) -> Body:
    """Three convolutions with batch normalization, 128 features: 0.4 M parameters, what a CPU can train on CIFAR-10."""

    def block(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))

    last = nn.Sequential(_PoolToFour(), nn.Flatten(), nn.Linear(2048, 128), nn.ReLU())
    return nn.Sequential(block(channels, 32), block(32, 64), block(64, 128), last), 128


def _patchnet(channels: int) -> Body:
    """Two strided 5 x 5 convolutions without normalization, 64 features: 0.06 M parameters, quick to train from scratch."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(channels, 32, 5, stride=2, padding=2), nn.ReLU()),
        nn.Sequential(nn.Conv2d(32, 32, 5, stride=4, padding=2), nn.ReLU()),
        nn.Sequential(_PoolToFour(), nn.Flatten(), nn.Linear(512, 64), nn.ReLU()),
    ), 64


def _resnet_body(net: torchvision.models.ResNet, *, pool: bool) -> nn.Sequential:
    stem = [net.conv1, net.bn1, net.relu, *([net.maxpool] if pool else [])]
    last = nn.Sequential(net.layer4, net.avgpool, nn.Flatten())
    return nn.Sequential(nn.Sequential(*stem), net.layer1, net.layer2, net.layer3, last)


def _resnet18(channels: int) -> Body:
    """Torchvision's, with the usual 3 x 3 stride-1 stem and no first pooling."""
    net = torchvision.models.resnet18()
    net.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    return _resnet_body(net, pool=False), 512


def _resnet34(channels: int) -> Body:
    """Torchvision's with its 7 x 7 stride-2 stem, as the public benchmark uses it on 64-pixel images."""
    net = torchvision.models.resnet34()
    net.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return _resnet_body(net, pool=True), 512


def _resnet18_slim(channels: int) -> Body:
    """ResNet-18 with a quarter of its channels: 0.7 M parameters and a sixteenth of the work, for CPUs."""
    widths = (16, 32, 64, 128)

    def stage(inputs: int, outputs: int) -> nn.Module:
        stride = 1 if inputs == outputs else 2
        shortcut = None
        if stride == 2:
            shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm2d(outputs))
        return nn.Sequential(BasicBlock(inputs, outputs, stride, shortcut), BasicBlock(outputs, outputs))

    stem = nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    stages = [stage(inputs, outputs) for inputs, outputs in zip((16, *widths), widths, strict=False)]
    last = nn.Sequential(stages.pop(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(stem, *stages, last), widths[-1]


def _airbench_slim(channels: int) -> Body:
    """After airbench (Jordan, arXiv:2404.00498, section 3.1), half as wide and narrower: 0.15 M parameters, for CPUs.

    A 2 x 2 convolution without padding, then three blocks of convolution, pooling, convolution, each of both with batch
    normalization and GELU, and the largest value of each channel. The first convolution is learned, not whitened.
    """

    def block(inputs: int, outputs: int) -> nn.Module:
        first = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(outputs), nn.GELU()]
        return nn.Sequential(*first, nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.GELU())

    stem = nn.Sequential(nn.Conv2d(channels, 24, 2), nn.GELU())
    last = nn.Sequential(block(64, 64), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    return nn.Sequential(stem, block(24, 32), block(32, 64), last), 64


def _vgg(features: nn.Sequential, channels: int) -> Body:
    """Torchvision's convolutions with batch normalization, a block up to each pooling; 512 features, no dense layers."""
    layers = list(features)
    layers[0] = nn.Conv2d(channels, 64, 3, padding=1)
    blocks: list[list[nn.Module]] = [[]]
    for layer in layers:
        blocks[-1].append(layer)
        if isinstance(layer, nn.MaxPool2d):
            blocks.append([])
    blocks[-2] += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*(nn.Sequential(*block) for block in blocks[:-1])), 512


def _mobilenet_v2(channels: int) -> Body:
    """Torchvision's with stride 1 in the stem and in the first strided block, as usual for 32-pixel images."""
    features = torchvision.models.mobilenet_v2().features
    features[0][0] = nn.Conv2d(channels, 32, 3, padding=1, bias=False)
    features[2].conv[1][0].stride = (1, 1)
    last = nn.Sequential(*features[14:], nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(features[:2], features[2:4], features[4:7], features[7:14], last), 1280


_BODIES: dict[str, Callable[[int], Body]] = {
    "convnet": _convnet,
    "convnet_wide": _convnet_wide,
    "patchnet": _patchnet,
    "airbench_slim": _airbench_slim,
    "resnet18": _resnet18,
    "resnet18_slim": _resnet18_slim,
    "resnet34": _resnet34,
    "vgg11": lambda channels: _vgg(torchvision.models.vgg11_bn().features, channels),
    "vgg16": lambda channels: _vgg(torchvision.models.vgg16_bn().features, channels),
    "mobilenet_v2": _mobilenet_v2,
}


def build_ours(name: str, in_channels: int, num_classes: int, inputs: Inputs, dropout: float) -> Blocks:
    """One of our networks with weights from the global generator.

    Args:
        name: One of :data:`poison_and_defend.lightning_modules.networks.spec.OURS`.
    """
    body, num_features = _BODIES[name](in_channels)
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(
                module.weight, mode="fan_out" if name.startswith("resnet") else "fan_in", nonlinearity="relu"
            )
    return Blocks(body, nn.Linear(num_features, num_classes), inputs, dropout)
