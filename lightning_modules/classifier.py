"""The model that a user trains for real: one classifier, from scratch or a fresh head on frozen features."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from poison_and_defend.attacks.crafting.augmentation import augment, draw_augmentation
from poison_and_defend.attacks.crafting.second_order import twice_differentiable
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.arrays import read_tensors
from poison_and_defend.core.reading.files import guarded
from poison_and_defend.core.streams import step_generator
from poison_and_defend.defenses.training.base import Plain, Training, overrides
from poison_and_defend.defenses.training.course import State, Step
from poison_and_defend.lightning_modules.networks.base import Classifier, evaluating
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.check import check_images
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.lightning_modules.row_gradients import network_row_gradients

_CONVNET = Network()


class ClassifierModule(L.LightningModule):
    """An image classifier whose weights, batch order and augmentation follow from ``seed``.

    Args:
        network: The network: a short name, ``timm:NAME``, ``torchvision:NAME``, ``hf:ID`` or the path of a class.
        num_classes: Number of classes.
        in_channels: Channels of the images.
        mean: Per-channel mean of images in [0, 1].
        std: Per-channel standard deviation.
        recipe: How it is trained; its batch size is the datamodule's business here.
        defense: What each step of its training does otherwise, such as ``Mixup``; null for nothing.
        features: A safetensors file of a network's weights; its body is then frozen and kept in evaluation mode, and only a
            fresh head is trained (transfer learning).
        seed: Seeds weights and augmentation.
    """

    def __init__(
        self,
        network: Network = _CONVNET,
        num_classes: int = 10,
        in_channels: int = 1,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.5,),
        recipe: Recipe | None = None,
        defense: Training | None = None,
        features: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network = Network.of(network)
        self.save_hyperparameters(ignore=["recipe", "defense", "network"])
        # As plain values, which a checkpoint can be read for without unpickling a class.
        self.save_hyperparameters({"network": self.network.options()})
        self.recipe = Recipe() if recipe is None else recipe
        self.defense = Plain() if defense is None else defense
        if overrides(self.defense, "between_epochs"):
            raise InputError(
                f"{self.defense.name} looks at all rows between epochs, which a single model is not told of: use it in an "
                f"experiment, as --defenses [{self.defense.name}] (--model.defense)"
            )
        self._step: Step | None = None
        self.net: Classifier = build_network(
            self.network,
            in_channels=in_channels,
            num_classes=num_classes,
            mean=mean,
            std=std,
            seed=seed,
            option="--model.network",
        )
        self.frozen = features is not None
        if features is not None:
            load_weights(self.net.body, Path(features), prefix="body.")
            self.net.body.requires_grad_(False)
            self.net.head = fresh_head(self.net.num_features, num_classes, seed)
        else:
            self.defense.check_network(self.net, "--model.network")
        self.seed, self.num_classes = seed, num_classes
        self.train_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def setup(self, stage: str) -> None:
        """Refuse images that the network cannot read, before the first of them is trained on."""
        shape = getattr(getattr(self.trainer, "datamodule", None), "image_shape", None)
        if shape is not None and not self.network.plain:
            check_images(self.net, self.network, shape, "--model.network")

    @property
    def learning_rate(self) -> float:
        """The recipe's, where Lightning's `LearningRateFinder` looks for it and puts what it found."""
        return self.recipe.learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        # A recipe may be shared with other models.
        self.recipe = replace(self.recipe, learning_rate=rate)

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
        """The mean loss of one augmented batch, which the countermeasure may have changed.

        A recipe that remembers rows starts anew with every batch here: a datamodule does not say which rows these are.
        """
        images, labels = batch
        rows = torch.arange(len(labels), device=labels.device)[None]
        step = Step(
            inputs=(images.float() / 255)[None],
            labels=labels[None],
            rows=rows,
            seeds=(self.seed,),
            number=self.global_step,
            num_classes=self.num_classes,
            logits=self._evaluated,
            state=self._begin(len(labels)),
            gradients=self._parameter_gradients,
            epoch=self.current_epoch,
        )
        step = self.defense.unaugmented(step)
        view = augmented(step.inputs[0], self.recipe, [self.seed], self.global_step)
        self._step = step = self.defense.inputs(replace(step, inputs=view[None]))
        with self.recipe.computing(self.device):
            logits = self(self.recipe.laid_out(step.inputs[0])).float()
        loss = self.defense.losses(logits[None], step).mean()
        self.train_accuracy(logits, labels)
        self.log("train/loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        self.log("train/accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        return self._by_rows(step) if overrides(self.defense, "row_factors") else loss

    def _by_rows(self, step: Step) -> Tensor:
        """A loss whose gradient is the mean of the rows' own, each times its factor."""
        trained = self._trained()
        buffers, factors = dict(self.net.named_buffers()), self.defense.row_factors
        found, _ = network_row_gradients(self.net, trained, buffers, step.inputs[0], step.shares()[0], factors)
        return torch.stack([(trained[name] * value).sum() for name, value in found.items()]).sum()

    def on_after_backward(self) -> None:
        """Let the countermeasure change what the optimiser is given."""
        if not overrides(self.defense, "gradient") or self._step is None:
            return
        trained = self._trained()
        found = {name: value.grad[None] for name, value in trained.items() if value.grad is not None}
        with torch.no_grad():
            for name, value in self.defense.gradient(found, self._step).items():
                trained[name].grad = value[0]

    def _trained(self) -> dict[str, torch.nn.Parameter]:
        return {name: value for name, value in self.net.named_parameters() if value.requires_grad}

    def _parameter_gradients(self, losses: Tensor) -> State:
        trained = self._trained()
        with twice_differentiable():
            found = torch.autograd.grad(losses.sum(), list(trained.values()), create_graph=True, materialize_grads=True)
        return {name: value[None] for name, value in zip(trained, found, strict=True)}

    def _begin(self, rows: int) -> State:
        return {name: value.to(self.device) for name, value in self.defense.begin(1, rows).items()}

    def _evaluated(self, inputs: Tensor) -> Tensor:
        with evaluating(self):
            logits: Tensor = self(inputs[0])
        return logits[None]

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

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Logits ``(B, num_classes)`` of a batch of images and labels."""
        logits: Tensor = self(batch[0])
        return logits

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser and schedule over what is trained."""
        optimizer = self.recipe.build_optimizer([p for p in self.parameters() if p.requires_grad])
        return {"optimizer": optimizer, "lr_scheduler": self.recipe.build_scheduler(optimizer)}


def fresh_head(num_features: int, num_classes: int, seed: int) -> torch.nn.Linear:
    """A linear head whose weights depend on ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which also notes a stack trace for every GPU that might come up later.
        torch.default_generator.manual_seed(seed % 2**63)
        return torch.nn.Linear(num_features, num_classes)


def augmented(images: Tensor, recipe: Recipe, seeds: Sequence[int], step: int) -> Tensor:
    """Random views of a batch for one or more members.

    Args:
        images: ``(M * B, C, H, W)`` float, member after member.
        seeds: M member seeds.
        step: Training step, from 0.
    """
    if not recipe.augments:
        return images
    count = len(images) // len(seeds)
    views = [draw_augmentation((count,), step_generator(seed, step), flip=recipe.flip) for seed in seeds]
    return augment(images, torch.cat(views).to(images.device), recipe.max_shift)


def load_weights(module: torch.nn.Module, path: Path, prefix: str = "", option: str = "--model.features") -> None:
    """Load a safetensors file, or the part of it under ``prefix``, strictly.

    Raises:
        InputError: If the file is missing, truncated or of another architecture.
    """
    what = "no weights of this network"
    state = read_tensors(path, what, option)
    with guarded(path, what, option):
        module.load_state_dict({name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)})
