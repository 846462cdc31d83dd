"""Training many models at once with all ranks, and the surrogates that an attacker starts from."""

from collections.abc import Callable, Sequence

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from safetensors.torch import save
from torch import Tensor, nn

from callbacks.fit_progress import FitProgress
from datamodules import Split
from files import write_bytes
from lightning_modules.backbones import Backbone, build_backbone
from lightning_modules.classifier import load_weights
from lightning_modules.ensemble import EnsembleData, EnsembleModule, State
from lightning_modules.recipe import Recipe
from ranks import Ranks
from stages.experiment import Experiment
from stages.launch import Threads, local_trainer


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
) -> dict[int, State]:
    """Train all members, each on one rank, in one fit per rank.

    A rank that has no member trains a copy of the first: callbacks may hold collectives, which every rank must join.

    Returns:
        States of this rank's members by number.
    """
    members = share_members(len(seeds), per_block, ranks)
    trained = members or [0]
    module = EnsembleModule(build, [seeds[m] for m in trained], data.members(trained), recipe, per_block)
    hooks = [*callbacks(trained), FitProgress(text, enabled=ranks.rank == 0)]
    with Threads(threads):
        local_trainer(ranks, epochs=recipe.epochs, callbacks=hooks, logger=logger).fit(module)
    return {member: module.member_state(place) for place, member in enumerate(members)}


def backbone_builder(experiment: Experiment) -> Callable[[int], Backbone]:
    """Seed to an untrained backbone for the experiment's data."""
    data = experiment.data

    def build(seed: int) -> Backbone:
        return build_backbone(
            experiment.backbone,
            in_channels=data.image_shape[0],
            num_classes=data.num_classes,
            mean=data.mean,
            std=data.std,
            seed=seed,
        )

    return build


def surrogate_seeds(experiment: Experiment) -> list[int]:
    """Seeds that no victim shares: those count from zero per setup, these from the top."""
    return [2**62 - 1 - 7919 * (experiment.seed * 1000 + number) for number in range(experiment.surrogates)]


def train_surrogates(experiment: Experiment, ranks: Ranks, logger: Logger | None = None) -> list[Backbone]:
    """The attacker's models: trained once, kept in the experiment's folder, read back on every rank."""
    build, seeds = backbone_builder(experiment), surrogate_seeds(experiment)
    folder = experiment.folder / "surrogates"
    paths = [folder / f"{experiment.backbone}_{number}.safetensors" for number in range(len(seeds))]
    ranks.barrier("before surrogates")
    missing = [path for path in paths if not path.exists()]
    # All ranks must have looked before one of them writes.
    ranks.barrier("surrogates counted")
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        split = experiment.public if experiment.scenario == "transfer" else _clean_training_set(experiment)
        data = EnsembleData(split.images, split.labels, torch.arange(len(split)).expand(len(seeds), -1))
        states = fit_members(
            build,
            seeds,
            data,
            experiment.feature_recipe,
            ranks,
            per_block=1,
            threads=experiment.threads,
            text=f"train {len(seeds)} surrogate{'s' * (len(seeds) > 1)} on {len(split)} images",
            logger=logger,
        )
        for number, state in states.items():
            write_bytes(paths[number], save({k: v.contiguous() for k, v in state.items()}))
        ranks.barrier("surrogates saved")
    models = []
    for seed, path in zip(seeds, paths, strict=True):
        model = build(seed)
        load_weights(model, path)
        models.append(model.to(ranks.device).eval().requires_grad_(False))
    return models


def _clean_training_set(experiment: Experiment) -> Split:
    """From scratch the attacker knows the training set but not the victim's initialisation (grey box)."""
    train, rows = experiment.data.split("train"), torch.from_numpy(experiment.rows)
    return Split(train.images[rows], train.labels[rows])


@torch.no_grad()
def extract_features(model: Backbone, images: Tensor, device: torch.device, batch_size: int = 256) -> Tensor:
    """Penultimate features ``(N, F)`` float32 on the CPU, in batches of constant shape."""
    parts = []
    for start in range(0, len(images), batch_size):
        rows = torch.arange(start, start + batch_size).clamp_max(len(images) - 1)
        batch = images[rows].to(device).float() / 255
        parts.append(model.features(batch)[: len(images) - start].cpu())
    return torch.cat(parts)
