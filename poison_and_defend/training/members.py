"""Training many models at once with all ranks, and keeping them by content."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from safetensors.torch import save
from torch import Tensor, nn

from poison_and_defend.callbacks.fit_progress import FitProgress
from poison_and_defend.core.files import digest, write_bytes
from poison_and_defend.core.hashing import hash_array
from poison_and_defend.core.ranks import Ranks
from poison_and_defend.datamodules import ArrayDataModule, Split
from poison_and_defend.lightning_modules.backbones import Backbone, BackboneName, build_backbone
from poison_and_defend.lightning_modules.classifier import load_weights
from poison_and_defend.lightning_modules.ensemble import EnsembleData, EnsembleModule, State
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.training.local_trainer import Threads, local_trainer


def share_members(count: int, per_block: int, ranks: Ranks) -> list[int]:
    """Members of this rank: whole blocks, whose composition is the same for any number of ranks."""
    blocks = [range(i, min(i + per_block, count)) for i in range(0, count, per_block)]
    return [member for number in ranks.share(len(blocks)) for member in blocks[number]]


def fit_members(
    build: Callable[[int], nn.Module],
    seeds: Sequence[int],
    data: EnsembleData,
    recipe: Recipe,
    ranks: Ranks,
    *,
    per_block: int,
    threads: int,
    text: str,
    callbacks: Callable[[list[int]], Sequence[Callback]] = lambda members: (),
    logger: Logger | None = None,
    frozen_statistics: bool = False,
    fast: bool = False,
) -> dict[int, State]:
    """Train all members, each on one rank, in one fit per rank; without a ``text`` no progress is shown.

    A rank that has no member trains a copy of the first: callbacks may hold collectives, which every rank must join.

    Returns:
        States of this rank's members by number.
    """
    members = share_members(len(seeds), per_block, ranks)
    trained = members or [0]
    own_seeds, options = [seeds[m] for m in trained], (per_block, frozen_statistics, fast)
    module = EnsembleModule(build, own_seeds, data.members(trained), recipe, *options)
    hooks = [*callbacks(trained), FitProgress(text, enabled=ranks.rank == 0 and bool(text))]
    with Threads(threads):
        local_trainer(ranks, epochs=recipe.epochs, callbacks=hooks, logger=logger).fit(module)
    return {member: module.member_state(place) for place, member in enumerate(members)}


@dataclass(frozen=True, eq=False)
class ModelSpec:
    """All that a trained network depends on.

    Attributes:
        split: What it is trained on; its classes are ``0..num_classes - 1``.
        dropout: Between blocks.
    """

    backbone: BackboneName
    seed: int
    recipe: Recipe
    split: Split
    num_classes: int
    data: ArrayDataModule
    dropout: float = 0.0
    threads: int = 1

    def build(self, seed: int | None = None) -> Backbone:
        """The untrained network, of another seed if one is given."""
        return build_backbone(
            self.backbone,
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
            "backbone": self.backbone,
            "recipe": self.recipe.settings(),
            "images": hash_array(self.split.images.numpy()),
            "labels": hash_array(self.split.labels.numpy()),
            "num_classes": self.num_classes,
            "normalization": [self.data.mean, self.data.std],
            "dropout": self.dropout,
            "threads": self.threads,
        }
        return digest(settings)

    @property
    def file_name(self) -> str:
        """Depends on content alone, so that all setups, attacks and experiments with this network share it."""
        return f"{self.backbone}-{digest([self.group, self.seed])}.safetensors"


def trained_models(
    specs: Sequence[ModelSpec], folder: Path, ranks: Ranks, text: str, logger: Logger | None = None
) -> list[Backbone]:
    """Networks by content: read from ``folder``, where missing ones are first trained by all ranks and kept.

    Returns:
        In the order of ``specs``, on every rank: in evaluation mode on its device, their parameters frozen.
    """
    paths = [folder / spec.file_name for spec in specs]
    ranks.barrier("before models")
    missing = {path: spec for path, spec in zip(paths, specs, strict=True) if not path.exists()}
    # All ranks must have looked before one of them writes.
    ranks.barrier("models counted")
    for group in dict.fromkeys(spec.group for spec in missing.values()):
        own = [(path, spec) for path, spec in missing.items() if spec.group == group]
        folder.mkdir(parents=True, exist_ok=True)
        split = own[0][1].split
        states = fit_members(
            own[0][1].build,
            [spec.seed for _, spec in own],
            EnsembleData(split.images, split.labels, torch.arange(len(split)).expand(len(own), -1)),
            own[0][1].recipe,
            ranks,
            per_block=1,
            threads=own[0][1].threads,
            text=f"train {len(own)} {own[0][1].backbone} ({text}) on {len(split)} images",
            logger=logger,
        )
        for number, state in states.items():
            write_bytes(own[number][0], save({k: v.contiguous() for k, v in state.items()}))
    ranks.barrier("models saved")
    models = []
    for path, spec in zip(paths, specs, strict=True):
        model = spec.build()
        load_weights(model, path, option="remove this one file, and the network is trained again; --output_dir")
        models.append(frozen(model, ranks.device))
    return models


def frozen(model: Backbone, device: torch.device) -> Backbone:
    """The model on ``device``, in evaluation mode, without gradients of its own."""
    return model.to(device).eval().requires_grad_(False)


@torch.no_grad()
def extract_features(
    model: Backbone,
    images: Tensor,
    device: torch.device,
    batch_size: int = 256,
    transform: Callable[[Tensor, Tensor], Tensor] = lambda images, rows: images,
) -> Tensor:
    """Penultimate features ``(N, F)`` float32 on the CPU, in batches of constant shape.

    Args:
        images: ``(N, C, H, W)`` uint8.
        transform: Applied to float images in [0, 1] and their positions.
    """
    parts = []
    for start in range(0, len(images), batch_size):
        rows = torch.arange(start, start + batch_size).clamp_max(len(images) - 1)
        batch = transform(images[rows].to(device).float() / 255, rows)
        parts.append(model.features(batch)[: len(images) - start].cpu())
    return torch.cat(parts)
