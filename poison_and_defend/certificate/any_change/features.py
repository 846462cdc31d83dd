"""What pretrained networks say of images, kept by content in pieces, so that a kill costs little and ranks share the work."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import digest, save_array
from poison_and_defend.core.hashing import hash_array
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.progress import StoreProgress, announce, duration
from poison_and_defend.core.reading.arrays import read_array
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.frozen import frozen_form
from poison_and_defend.lightning_modules.networks.identity import network_identity
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.training.features import extract_features

_PIECE = 2048
_ROUNDING = 1e-4
"""What a feature may differ by in another batch, in its largest magnitude."""
_WHAT = "no features; remove it, and they are computed again"


@dataclass(frozen=True, eq=False)
class FeatureStore:
    """Features of several networks, one after the other.

    Attributes:
        networks: Which.
        mean: Per-channel mean of images in [0, 1], for networks that have none of their own.
        std: Per-channel standard deviation, likewise.
        folder: Where pieces are kept.
    """

    networks: Sequence[Network]
    mean: Sequence[float]
    std: Sequence[float]
    folder: Path
    ranks: Ranks

    def of(self, images: Tensor, what: str) -> Tensor:
        """Features ``(N, F)`` float32 of images ``(N, C, H, W)`` uint8; every rank has all of them.

        Args:
            what: What the images are, for the user.

        Raises:
            InputError: If a kept piece is damaged.
        """
        found = [self._one(network, images, f"{network.build.rpartition(':')[2]}: {what}") for network in self.networks]
        return torch.cat(found, 1)

    def _one(self, network: Network, images: Tensor, text: str) -> Tensor:
        channels, side, ranks = images.shape[1], images.shape[2], self.ranks
        built = build_network(network, in_channels=channels, num_classes=2, mean=self.mean, std=self.std)
        model = frozen_form(built, channels, side, ranks.device)
        # The head is not looked at.
        known = [network_identity(network, "--networks"), list(self.mean), list(self.std), str(model.precision)]
        pieces = images.split(_PIECE)
        paths = [self._path([*known, ranks.device.type], piece) for piece in pieces]
        missing = [number for number, path in enumerate(paths) if not path.exists()]
        # All ranks must have looked before one of them writes.
        ranks.barrier("features looked for")
        if missing:
            _check_rows(model, images, network, ranks)
            _estimate(model, images, sum(len(pieces[number]) for number in missing), text, ranks)
        self.folder.mkdir(parents=True, exist_ok=True)
        with StoreProgress(text, enabled=ranks.rank == 0 and bool(missing)) as bar:
            for done, place in enumerate(ranks.share(len(missing))):
                number = missing[place]
                save_array(paths[number], extract_features(model, pieces[number], ranks.device).numpy())
                bar(done + 1, len(ranks.share(len(missing))), f"pieces of {_PIECE:,} images")
        ranks.barrier("features computed")
        found: list[NDArray[Any]] = [
            read_array(path, _WHAT, "--output_dir", dtype="float32", shape=(len(piece), model.num_features))
            for path, piece in zip(paths, pieces, strict=True)
        ]
        return torch.from_numpy(np.concatenate(found))

    def _path(self, known: list[Any], piece: Tensor) -> Path:
        return self.folder / f"{digest([*known, hash_array(piece.numpy())])}.npy"


def _check_rows(model: Classifier, images: Tensor, network: Network, ranks: Ranks) -> None:
    """Refuse a network whose features of an image depend on its neighbours in a batch: one poison would change them all.

    Raises:
        InputError: If they do.
    """
    batch = images[: min(8, len(images))]
    others = batch.flip(0).bitwise_not()
    others[0] = batch[0]
    first, again = (extract_features(model, own, ranks.device)[0] for own in (batch, others))
    if float((first - again).abs().max()) > _ROUNDING * float(first.abs().max()):
        raise InputError(
            f"features of {network.build} depend on the other images of a batch, so that one poison changes many: take "
            "a network that sees images one by one (--networks)"
        )


def _estimate(model: Classifier, images: Tensor, count: int, text: str, ranks: Ranks) -> None:
    """Say how long it takes at the speed of one batch, before it starts."""
    batch = images[: min(32, len(images))]
    extract_features(model, batch, ranks.device)
    started = time.perf_counter()
    extract_features(model, batch, ranks.device)
    rate = len(batch) / (time.perf_counter() - started)
    announce(f"{text}: {count:,} images at {rate:,.0f} a second, about {duration(count / rate / ranks.world)}", ranks)
