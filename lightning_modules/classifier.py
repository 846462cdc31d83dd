"""The model that a user trains for real: one classifier, from scratch or a fresh head on frozen features."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy

from attacks.augmentation import augment, draw_augmentation
from errors import InputError
from lightning_modules.backbones import Backbone, BackboneName, build_backbone
from lightning_modules.recipe import Recipe, step_generator


class ClassifierModule(L.LightningModule):
    """An image classifier whose weights, batch order and augmentation follow from ``seed``.

    Args:
        backbone: ``convnet``, ``convnet_wide``, ``patchnet``, ``resnet18``, ``vgg11`` or ``mobilenet_v2``.
        num_classes: Number of classes.
        in_channels: Channels of the images.
        mean: Per-channel mean of images in [0, 1].
        std: Per-channel standard deviation.
        recipe: How it is trained; its batch size is the datamodule's business here.
        features: A safetensors file of a backbone's weights; its body is then frozen and kept in evaluation mode, and only a
            fresh head is trained (transfer learning).
        seed: Seeds weights and augmentation.
    """

    def __init__(
        self,
        backbone: BackboneName = "convnet",
        num_classes: int = 10,
        in_channels: int = 1,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.5,),
        recipe: Recipe | None = None,
        features: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["recipe"])
        self.recipe = Recipe() if recipe is None else recipe
        self.net: Backbone = build_backbone(
            backbone, in_channels=in_channels, num_classes=num_classes, mean=mean, std=std, seed=seed
        )
        self.frozen = features is not None
        if features is not None:
            load_weights(self.net.body, Path(features), prefix="body.")
            self.net.body.requires_grad_(False)
            self.net.head = fresh_head(self.net.num_features, num_classes, seed)
        self.seed = seed
        self.train_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def train(self, mode: bool = True) -> "ClassifierModule":
        """Training mode, but for a frozen body: its batch statistics are part of the features."""
        super().train(mode)
        if self.frozen:
            self.net.body.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of uint8 images, or of float images in [0, 1]."""
        logits: Tensor = self.net(images.float() / 255 if images.dtype == torch.uint8 else images)
        return logits

    def member_predictions(self, images: Tensor) -> Tensor:
        """Predicted classes ``(1, N)``: this model seen as an ensemble of one."""
        predicted: Tensor = self(images).argmax(-1)
        return predicted[None]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy on one augmented batch."""
        images, labels = batch
        logits = self(augmented(images.float() / 255, self.recipe, [self.seed], self.global_step))
        loss = functional.cross_entropy(logits, labels)
        self.train_accuracy(logits, labels)
        self.log("train/loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        self.log("train/accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Accuracy on the clean test split while training."""
        images, labels = batch
        self.val_accuracy(self(images), labels)
        self.log("val/accuracy", self.val_accuracy, prog_bar=True)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Accuracy on the clean test split."""
        images, labels = batch
        self.test_accuracy(self(images), labels)
        self.log("test/accuracy", self.test_accuracy)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser and schedule over what is trained."""
        optimizer = self.recipe.build_optimizer([p for p in self.parameters() if p.requires_grad])
        return {"optimizer": optimizer, "lr_scheduler": self.recipe.build_scheduler(optimizer)}


def fresh_head(num_features: int, num_classes: int, seed: int) -> torch.nn.Linear:
    """A linear head whose weights depend on ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        return torch.nn.Linear(num_features, num_classes)


def augmented(images: Tensor, recipe: Recipe, seeds: Sequence[int], step: int) -> Tensor:
    """Random views of a batch for one or more members.

    Args:
        images: ``(M * B, C, H, W)`` float, member after member.
        seeds: M member seeds.
        step: Training step, from 0.
    """
    if recipe.max_shift == 0 and not recipe.flip:
        return images
    count = len(images) // len(seeds)
    views = [draw_augmentation((count,), step_generator(seed, step), flip=recipe.flip) for seed in seeds]
    return augment(images, torch.cat(views).to(images.device), recipe.max_shift)


def load_weights(module: torch.nn.Module, path: Path, prefix: str = "") -> None:
    """Load a safetensors file, or the part of it under ``prefix``, strictly.

    Raises:
        InputError: If the file is missing, truncated or of another architecture.
    """
    try:
        state = load_file(path)
        own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        module.load_state_dict(own)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"cannot load weights from {path}: {reason} (--model.features)") from error
