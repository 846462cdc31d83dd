"""Sanitizing what the victims of an experiment train on: the clean rows once for all experiments, each one's poisons apart."""

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.poison_set import PoisonSet
from datamodules.progress import StoreProgress
from datamodules.store import sanitize, store_settings
from defenses.switch import DefenseName
from files import digest
from ranks import Ranks
from stages.experiment import Experiment


@dataclass(frozen=True, eq=False)
class Sanitized:
    """Training images under one defence.

    Attributes:
        clean: ``(U, C, H, W)`` uint8: the rows ``experiment.rows`` of the training split.
        poisons: ``(S * k, C, H, W)`` uint8: the poisons, setup after setup.
    """

    clean: Tensor
    poisons: Tensor


def sanitize_all(experiment: Experiment, poison_sets: list[PoisonSet], ranks: Ranks) -> dict[DefenseName, Sanitized]:
    """Every defence of the experiment, each into two stores.

    Only k rows differ between setups, and noise is keyed by row, so that a poison laid over the sanitized clean set equals
    sanitizing the whole poisoned set. Nothing of an attack is in the clean rows: their store is found by its content and
    serves every attack on the same training images.
    """
    rows = torch.from_numpy(experiment.rows)
    clean = experiment.data.split("train").images[rows]
    poisons = torch.cat([p.images for p in poison_sets])
    poison_rows = torch.cat([torch.from_numpy(p.setup.base_indices) for p in poison_sets])
    results: dict[DefenseName, Sanitized] = {}
    for name, defense in experiment.built_defenses.items():
        if name in ("none", "no_attack"):
            bases = torch.cat([p.bases for p in poison_sets])
            results[name] = Sanitized(clean, poisons if name == "none" else bases)
            continue
        parts = []
        shared = digest(store_settings(clean, rows, defense, experiment.sanitize_batch_size))
        for part, images, numbers, folder in (
            ("clean", clean, rows, experiment.stores_folder / f"{name}-{shared}"),
            ("poisons", poisons, poison_rows, experiment.folder / "stores" / name),
        ):
            with StoreProgress(f"sanitize {part} ({name})", enabled=ranks.rank == 0) as bar:
                parts.append(
                    sanitize(images, numbers, defense, folder, ranks, batch_size=experiment.sanitize_batch_size, progress=bar)
                )
        results[name] = Sanitized(*parts)
    return results
