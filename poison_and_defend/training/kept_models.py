"""Networks kept by content: trained once by all ranks, read by everybody after."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import torch
from lightning.pytorch.loggers import Logger
from safetensors.torch import save

from poison_and_defend.core.files import digest, write_bytes
from poison_and_defend.core.hashing import hash_array
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.datamodules import ArrayDataModule, Split
from poison_and_defend.defenses.training.base import Plain, Training
from poison_and_defend.lightning_modules.classifier import load_weights
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.identity import network_identity
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.training.features import frozen
from poison_and_defend.training.members import Fit, fit_members


@dataclass(frozen=True, eq=False)
class ModelSpec:
    """All that a trained network depends on.

    Attributes:
        split: What it is trained on; its classes are ``0..num_classes - 1``.
        dropout: Between blocks.
        defense: What each step of its training does otherwise than the recipe says.
        start: The network that it starts from, of the same architecture and outputs; None for an initialisation by its seed.
        trained: Whether it is trained at all; else it is what it is built as, with the weights that it comes with.
    """

    network: Network
    seed: int
    recipe: Recipe
    split: Split
    num_classes: int
    data: ArrayDataModule
    dropout: float = 0.0
    threads: int = 1
    defense: Training = field(default_factory=Plain)
    start: "ModelSpec | None" = None
    trained: bool = True

    def build(self, seed: int | None = None) -> Classifier:
        """The untrained network, of another seed if one is given."""
        return build_network(
            self.network,
            in_channels=self.split.images.shape[1],
            num_classes=self.num_classes,
            mean=self.data.mean,
            std=self.data.std,
            seed=self.seed if seed is None else seed,
            dropout=self.dropout,
        )

    @cached_property
    def group(self) -> str:
        """What members of one fit share."""
        settings = {
            # Its key is older than networks that have more than a name; other keys would be other digests.
            "backbone": network_identity(self.network),
            "recipe": self.recipe.settings(self.defense),
            "images": hash_array(self.split.images.numpy()),
            "labels": hash_array(self.split.labels.numpy()),
            "num_classes": self.num_classes,
            "normalization": [self.data.mean, self.data.std],
            "dropout": self.dropout,
            "threads": self.threads,
        }
        if self.start is not None:
            settings["start"] = self.start.file_name
        return digest(settings)

    @property
    def file_name(self) -> str:
        """Depends on content alone, so that all setups, attacks and experiments with this network share it."""
        return f"{self.network.stem}-{digest([self.group, self.seed])}.safetensors"

    def begin(self, folder: Path, seed: int) -> Classifier:
        """What training begins with: the untrained network, or the trained one that this starts from.

        Args:
            folder: Where trained networks are kept.
            seed: Of an untrained one.
        """
        model = self.build(seed)
        if self.start is not None:
            _load(model, folder / self.start.file_name)
        return model


def trained_models(
    specs: Sequence[ModelSpec], folder: Path, ranks: Ranks, text: str, logger: Logger | None = None
) -> list[Classifier]:
    """Networks by content: read from ``folder``, where missing ones are first trained by all ranks and kept.

    Those that are not to be trained are built, and have no file.

    Args:
        specs: Those that start from another network come in a later call than that.

    Returns:
        In the order of ``specs``, on every rank: in evaluation mode on its device, their parameters frozen.
    """
    paths = [folder / spec.file_name if spec.trained else folder for spec in specs]
    ranks.barrier("before models")
    missing = {path: spec for path, spec in zip(paths, specs, strict=True) if spec.trained and not path.exists()}
    # All ranks must have looked before one of them writes.
    ranks.barrier("models counted")
    for group in dict.fromkeys(spec.group for spec in missing.values()):
        own = [(path, spec) for path, spec in missing.items() if spec.group == group]
        folder.mkdir(parents=True, exist_ok=True)
        split = own[0][1].split
        states = fit_members(
            partial(own[0][1].begin, folder),
            [spec.seed for _, spec in own],
            EnsembleData(split.images, split.labels, torch.arange(len(split)).expand(len(own), -1)),
            own[0][1].recipe,
            ranks,
            Fit(
                per_block=1,
                threads=own[0][1].threads,
                text=f"train {len(own)} {own[0][1].network.build} ({text}) on {len(split)} images",
                defense=own[0][1].defense,
            ),
            logger=logger,
        )
        for number, state in states.items():
            write_bytes(own[number][0], save({k: v.contiguous() for k, v in state.items()}))
    ranks.barrier("models saved")
    models = []
    for path, spec in zip(paths, specs, strict=True):
        model = spec.build()
        if spec.trained:
            _load(model, path)
        models.append(frozen(model, ranks.device))
    return models


def _load(model: Classifier, path: Path) -> None:
    load_weights(model, path, option="remove this one file, and the network is trained again; --output_dir")
