"""Tiny networks of every kind and origin, and modules of a user's own."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from poison_and_defend.lightning_modules.networks.spec import Network

HERE = "tests.lightning_modules.networks.zoo"

NAMES = ("resnet", "vit", "mixer", "convnext", "lite0", "shufflenet", "torchvision_vit", "own", "hf_vit", "hf_resnet")
"""Convolutional, attention and mixing; of timm, torchvision, transformers and a user's own."""


class Own(nn.Module):
    """A module as anybody writes one: no blocks, a head in the middle of its attributes, and dropout."""

    def __init__(self, num_classes: int, width: int = 8) -> None:
        super().__init__()
        self.classify = nn.Linear(4 * width, num_classes)
        self.convolve = nn.Conv2d(3, width, 3, padding=1)
        self.drop = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        outputs = nn.functional.gelu(self.convolve(images))
        return self.classify(self.drop(nn.functional.adaptive_avg_pool2d(outputs, 2).flatten(1)))


class Refused(nn.Module):
    """Reads 32 pixels and nothing else; its last linear layer is not the last thing that it does; and more as asked."""

    def __init__(self, num_classes: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.body, self.head = nn.Linear(1024, 8), nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        if self.kind == "detached":
            images = images.detach()
        if self.kind == "in place":
            images = torch.zeros(images.shape).copy_(images)
        outputs = self.head(self.body(images.flatten(1)).relu())
        return outputs.log_softmax(1) if self.kind == "softmax" else outputs


def made(num_classes: int) -> nn.Module:
    return Own(num_classes)


def unsaid(num_classes: int):
    raise AssertionError("it was called")


class NoModule:
    def __init__(self) -> None:
        raise AssertionError("it was called")


def _transformers(kind: str, folder: Path) -> str:
    from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

    configs: dict[str, Any] = {
        "hf_vit": (ViTForImageClassification, ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8,
            hidden_dropout_prob=0.3,
        )),
        "hf_resnet": (ResNetForImageClassification, ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
        )),
    }  # fmt: skip
    model, config = configs[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model(config).save_pretrained(folder / kind)
    return f"hf:{folder / kind}"


def network(name: str, folder: Path, **changes: Any) -> Network:
    """One of the tiny networks.

    Args:
        folder: Where networks of transformers are saved.
    """
    vit = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64}
    options: dict[str, dict[str, Any]] = {
        "resnet": {"build": "timm:resnet10t", "arguments": {"channels": [8, 8, 16, 32], "stem_width": 8}},
        "vit": {
            "build": "timm:vit_tiny_patch16_224",
            "arguments": {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "drop_path_rate": 0.3},
            "blocks": ["blocks.0", "blocks.1"],
        },
        "mixer": {
            "build": "timm.models.mlp_mixer.MlpMixer",
            "arguments": {"img_size": 16, "patch_size": 4, "embed_dim": 32, "num_blocks": 2},
            "size": 16,
        },
        "convnext": {"build": "timm:convnext_atto", "arguments": {"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}},
        "lite0": {"build": "timm:tf_efficientnet_lite0", "layers": ["blocks.4", "blocks.5", "blocks.6"]},
        "shufflenet": {"build": "torchvision:shufflenet_v2_x0_5"},
        "torchvision_vit": {"build": "torchvision.models.VisionTransformer", "arguments": vit},
        "own": {"build": f"{HERE}.Own"},
    }
    if name.startswith("hf"):
        options[name] = {"build": _transformers(name, folder)}
    return Network(**options[name] | changes)


class Hard(Own):
    """A module with an activation that has one derivative."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.act = nn.Hardsigmoid()

    def forward(self, images: Tensor) -> Tensor:
        outputs = self.act(self.convolve(images))
        return self.classify(nn.functional.adaptive_avg_pool2d(outputs, 2).flatten(1))


class _Doubling(nn.Module):
    def forward(self, *, images):
        return 2 * images


class Named(nn.Module):
    """A module within is given its images by name."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.twice, self.head = _Doubling(), nn.Linear(in_channels, num_classes)

    def forward(self, images):
        return self.head(self.twice(images=images).mean((2, 3)))
