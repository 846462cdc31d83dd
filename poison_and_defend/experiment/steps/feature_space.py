"""What the report needs to show why an attack works: features of one setup's images under one defence."""

import numpy as np
import torch
from torch import Tensor

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.core.files import save_arrays
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.experiment.steps.protect import Sanitized
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.training.features import extract_features

_SHOWN = 150


def save_feature_space(
    plan: ExperimentPlan,
    model: Classifier,
    poisons: PoisonSet,
    defense: str,
    own: Sanitized,
    ranks: Ranks,
    kept: Tensor | None = None,
) -> None:
    """Write ``figures/features_<defence>.npz``: penultimate features of both classes, the poisons and what is tested.

    Training images are as the defence leaves them; targets and triggered images are tested as they are.

    Args:
        own: Training images under the arm's rewriters.
        kept: ``(n,)`` int64, positions of the setup's training set that its filters left; None for all. Where no poison or no
            row of a class is left there is nothing to show, and nothing is written.
        model: The extractor, or the trained victim of this setup and defence.
    """
    model = model.to(ranks.device).eval()
    setup = poisons.setup
    train, test = plan.data.split("train"), plan.data.split("test")
    rows = torch.from_numpy(plan.rows)
    labels = train.labels[rows]
    bases = torch.isin(rows, torch.from_numpy(setup.base_indices))
    numbers, poisoned = torch.from_numpy(setup.rows(len(train))), torch.from_numpy(setup.positions)
    kept = torch.arange(len(numbers)) if kept is None else kept
    left, poisons_left = torch.isin(rows, numbers[kept]), torch.isin(poisoned, kept)
    chosen = (
        own.clean[(labels == setup.adversarial_label) & ~bases & left],
        own.clean[(labels == setup.target_label) & left],
        own.poisons[: len(poisons.images)][poisons_left],
    )
    if not all(map(len, chosen)):
        return

    def features(images: Tensor) -> np.ndarray:
        return extract_features(model, images[:_SHOWN], ranks.device).numpy()

    arrays = {
        **{name: features(images) for name, images in zip(("base_class", "target_class", "poisons"), chosen, strict=True)},
        "targets": features(poisons.tested_images(test.images, test.labels)),
    }
    folder = plan.folder / "figures"
    folder.mkdir(exist_ok=True)
    shared = np.bool_(plan.scenario == "transfer")
    save_arrays(folder / f"features_{defense}.npz", {"shared": np.asarray(shared)} | arrays)


def save_tested(plan: ExperimentPlan, poison_sets: list[PoisonSet], setups: int = 3, columns: int = 12) -> None:
    """Write ``figures/tested.npz``: the first targets, or test images with the trigger, of the first setups."""
    test = plan.data.split("test")
    shown = {f"setup_{p.setup.index:03d}": p.tested_images(test.images, test.labels)[:columns] for p in poison_sets[:setups]}
    folder = plan.folder / "figures"
    folder.mkdir(exist_ok=True)
    save_arrays(folder / "tested.npz", {name: images.numpy() for name, images in shown.items()})
