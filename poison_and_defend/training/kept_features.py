"""Features of images through frozen networks, kept by content: computed once for all experiments beside each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poison_and_defend.core.files import digest, save_array
from poison_and_defend.core.hashing import hash_array
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.reading.arrays import read_array
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.training.features import Transform, extract_features, unchanged

_WHAT = "no features; remove it, and they are computed again"


@dataclass(frozen=True, eq=False)
class KeptFeatures:
    """What one network makes of images.

    Attributes:
        model: The network.
        identity: What it is, as JSON can hold it; None keeps nothing.
        folder: Where features are kept.
    """

    model: Classifier
    identity: Any
    folder: Path
    ranks: Ranks

    def of(self, images: Tensor, transform: Transform = unchanged, transformed: Any = None) -> Tensor:
        """Penultimate features ``(N, F)`` float32: read where they are kept, else computed, and kept by the first rank.

        Args:
            images: ``(N, C, H, W)`` uint8.
            transform: Applied to float images in [0, 1] and their positions.
            transformed: What it does, as JSON can hold it.

        Raises:
            InputError: If a kept file is damaged.
        """
        device = self.ranks.device
        if self.identity is None or not len(images):
            return extract_features(self.model, images, device, transform=transform)
        known = [self.identity, str(self.model.precision), device.type, hash_array(images.numpy()), transformed]
        path = self.folder / f"{digest(known)}.npy"
        there = path.exists()
        # All ranks must have looked before one of them writes.
        self.ranks.barrier("features looked for")
        if there:
            shape = (len(images), self.model.num_features)
            return torch.from_numpy(read_array(path, _WHAT, "--output_dir", dtype="float32", shape=shape))
        features = extract_features(self.model, images, device, transform=transform)
        if self.ranks.rank == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_array(path, features.numpy())
        return features
