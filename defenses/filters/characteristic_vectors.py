"""Characteristic vectors: De Gaspari, Hitaj, Mancini, "Have You Poisoned My Data?", ESORICS 2024 (arXiv:2403.13523)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.filters.base import Filter, Received, Verdict, Workshop

# Images of a batch: always as many, so that a row's statistics do not depend on how many others there are.
_BATCH = 64


class CharacteristicVectors(Filter):
    """Drop every row that is nearer to another class's characteristic vector than to that of its own class.

    At each batch normalization of the network a row has the mean and the variance of every channel over the positions of the
    image, and a class has those over all positions of all its rows. The distance of a row from a class is the sum over layers
    of ``gamma (beta D(means) + (1 - beta) D(variances))``, where ``D`` is the cosine distance; a row's score is its distance
    from its own class less that from the nearest other, and it goes where that is above 0. It needs no bound on the poisons.

    The paper gives no values of gamma and beta: by our choice all layers weigh alike, and means as much as variances.
    Statistics are of what enters a layer, which is what the layer itself normalizes by. A variance over a single position says
    nothing, and is at the same distance from every class.

    The paper looks through a pretrained extractor. From scratch the network was trained on the received set, poisons and all.
    Statistics are kept for all rows at once: 8 bytes for each row and normalized channel.

    Args:
        beta: Weight of the means, between 0 and 1; the rest is that of the variances.
        gamma: Weight of each batch normalization in the order in which the network lists them; null for 1 each.

    Raises:
        InputError: If a value is out of range.
    """

    name = "characteristic_vectors"
    color = "#5f4b8b"
    told_of = "nothing"

    def __init__(self, beta: float = 0.5, gamma: list[float] | None = None) -> None:
        if not 0 <= beta <= 1:
            raise InputError(f"beta is {beta:g}: it is between 0 and 1 (--arms.{self.name}.beta)")
        if gamma is not None and not (all(0 <= one < float("inf") for one in gamma) and any(gamma)):
            raise InputError(f"gamma is {gamma}: weights are at least 0, and one is above (--arms.{self.name}.gamma)")
        self.beta, self.gamma = beta, gamma

    def settings(self) -> dict[str, Any]:
        """See :meth:`Defense.settings`."""
        return super().settings() | {"gamma": self.gamma}

    def check_network(self, network: nn.Module, name: str) -> None:
        """See :meth:`Filter.check_network`."""
        count = len(_norms(network))
        if not count:
            raise InputError(
                f"{name} has no batch normalization, whose inputs {self.name} compares: take a network that has, for example "
                "resnet18_slim (--network, --victims)"
            )
        if self.gamma is not None and len(self.gamma) != count:
            raise InputError(
                f"gamma has {len(self.gamma)} weights, and {name} has {count} batch normalizations (--arms.{self.name}.gamma)"
            )

    def judge(self, received: Received, workshop: Workshop) -> Verdict:
        """See :meth:`Filter.judge`."""
        network = workshop.network()
        self.check_network(network, "the victims' network")
        weights = [1.0] * len(_norms(network)) if self.gamma is None else self.gamma
        labels = received.labels.unique(return_inverse=True)[1]
        distances = torch.zeros(len(labels), int(labels.max()) + 1, dtype=torch.float64)
        for number, means, variances in statistics(network, received.images):
            centres, spreads = class_statistics(means, variances, labels)
            apart = self.beta * _cosine(means, centres) + (1 - self.beta) * _cosine(variances, spreads)
            distances += weights[number] * apart
        own = functional.one_hot(labels, distances.shape[1]).bool()
        scores = distances[own] - distances.masked_fill(own, float("inf")).amin(1)
        return Verdict(scores <= 0, scores)


@torch.no_grad()
def statistics(network: nn.Module, images: Tensor) -> list[tuple[int, Tensor, Tensor]]:
    """Means and variances over positions of all that enters a network's batch normalizations.

    Args:
        network: In evaluation mode.
        images: ``(N, C, H, W)`` uint8.

    Returns:
        For each use of one its number among the network's, and means and variances ``(N, channels)`` float32 on the CPU.
    """
    device = next(network.parameters()).device
    found: list[list[tuple[int, Tensor, Tensor]]] = []
    for start in range(0, len(images), _BATCH):
        rows = torch.arange(start, start + _BATCH).clamp_max(len(images) - 1)
        count = min(_BATCH, len(images) - start)
        with _watched(network) as seen:
            network(images[rows].to(device).float() / 255)
        found.append([(number, means[:count].cpu(), spread[:count].cpu()) for number, means, spread in seen])
    return [
        (uses[0][0], torch.cat([means for _, means, _ in uses]), torch.cat([spread for *_, spread in uses]))
        for uses in zip(*found, strict=True)
    ]


def class_statistics(means: Tensor, variances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel over all positions of all rows of a class, each row having as many.

    Args:
        means: ``(N, channels)`` float, of each row over its positions.
        variances: ``(N, channels)`` float, of each row over its positions.
        labels: ``(N,)`` int64 from 0 on, each occurring.

    Returns:
        Both ``(K, channels)`` float64.
    """
    shares = functional.one_hot(labels).double().T
    shares /= shares.sum(1, keepdim=True)
    centres = shares @ means.double()
    within = shares @ variances.double()
    return centres, within + shares @ (means.double() - centres[labels]).square()


def _norms(network: nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


@contextmanager
def _watched(network: nn.Module) -> Iterator[list[tuple[int, Tensor, Tensor]]]:
    """Notes the statistics of what enters each batch normalization while the network runs."""
    seen: list[tuple[int, Tensor, Tensor]] = []

    def note(number: int) -> Any:
        def hook(module: nn.Module, inputs: Sequence[Tensor]) -> None:
            values = inputs[0].float().flatten(2) if inputs[0].dim() > 2 else inputs[0].float()[:, :, None]
            spread, means = torch.var_mean(values, dim=2, correction=0)
            seen.append((number, means, spread))

        return hook

    handles = [module.register_forward_pre_hook(note(number)) for number, module in enumerate(_norms(network))]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _cosine(values: Tensor, centres: Tensor) -> Tensor:
    """Cosine distances ``(N, K)`` float64; 1 from and to what is zero."""
    return 1 - functional.normalize(values.double(), dim=1) @ functional.normalize(centres.double(), dim=1).T
