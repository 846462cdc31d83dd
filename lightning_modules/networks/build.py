"""From what a network is to the network itself."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from poison_and_defend.core.errors import InputError
from poison_and_defend.lightning_modules.networks.base import Classifier, Inputs
from poison_and_defend.lightning_modules.networks.foreign import Foreign, check_layers, count_features, cut_head, quiet
from poison_and_defend.lightning_modules.networks.ours import build_ours
from poison_and_defend.lightning_modules.networks.sources import build_source, mean_of
from poison_and_defend.lightning_modules.networks.spec import INTERPOLATIONS, Network
from poison_and_defend.lightning_modules.networks.weights import load_into

_LEAST = 32
"""Pixels of a side below which a pretrained network's features are worth nothing."""


def build_network(
    network: Network | str,
    *,
    in_channels: int,
    num_classes: int,
    mean: Sequence[float] = (0.5,),
    std: Sequence[float] = (0.5,),
    seed: int = 0,
    dropout: float = 0.0,
    option: str = "--network",
) -> Classifier:
    """Build a network with weights that depend on ``seed`` alone; the global generator is left as it was.

    A network that takes three channels sees a single one three times. Dropout and stochastic depth of its own are off: ours is
    drawn for each member of an ensemble, theirs would depend on its neighbours.

    Args:
        network: What is built.
        in_channels: Channels of the images.
        num_classes: Outputs of the head.
        mean: Per-channel mean of images in [0, 1] where the network has none of its own.
        std: Per-channel standard deviation of images in [0, 1] where the network has none of its own.
        seed: Of all weights that come from no file.
        dropout: Probability, between blocks.
        option: What sentences call the network.

    Raises:
        InputError: If it cannot be built.
    """
    network = Network.of(network)
    if not 0 <= dropout < 1:
        raise InputError(f"dropout is {dropout:g}: it is a probability in [0, 1) (--dropout)")
    if network.size is not None and network.size < 1:
        raise InputError(f"size is {network.size}: images have at least 1 pixel ({option}.size)")
    if network.size is not None and network.size < _LEAST and network.trained and not network.ours:
        raise InputError(
            f"size is {network.size}: networks that were trained on photographs see nothing in images of fewer than {_LEAST} "
            f"pixels ({option}.size)"
        )
    if network.resizing not in INTERPOLATIONS:
        known = " or ".join(INTERPOLATIONS)
        raise InputError(f"interpolation is {network.interpolation!r}: choose {known} ({option}.interpolation)")
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which also notes a stack trace for every GPU that might come up later.
        torch.default_generator.manual_seed(seed % 2**63)
        build = _build_ours if network.ours else _build_foreign
        model = build(network, in_channels, num_classes, (mean, std), dropout, option)
    if network.weights is not None:
        load_into(model, network.weights, getattr(model, "head_name", None), f"{option}.weights")
    return model


Statistics = tuple[Sequence[float], Sequence[float]]


def _build_ours(
    network: Network, in_channels: int, num_classes: int, data: Statistics, dropout: float, option: str
) -> Classifier:
    for name in ("arguments", "head"):
        if getattr(network, name):
            raise InputError(f"{name} is {getattr(network, name)!r}, and {network.build} takes none ({option}.{name})")
    inputs = _inputs(network, in_channels, in_channels, (None, None), data, option)
    model = build_ours(network.build, in_channels, num_classes, inputs, dropout)
    if not network.layers and not network.blocks:
        return model
    return _layered(network, model.body, model.head, None, inputs, in_channels, dropout, option)


def _build_foreign(
    network: Network, in_channels: int, num_classes: int, data: Statistics, dropout: float, option: str
) -> Classifier:
    source = build_source(network, in_channels, num_classes, option)
    if source.channels != in_channels and in_channels != 1:
        raise InputError(
            f"{network.build} takes images of {source.channels} channels, the data's have {in_channels} ({option})"
        )
    if dropout and not network.blocks:
        raise InputError(
            f"dropout is {dropout:g}, but no blocks of {network.build} are named that it could come before (--dropout, "
            f"{option}.blocks)"
        )
    name, head = cut_head(source.module, network.head, num_classes, network.build, option)
    inputs = _inputs(network, in_channels, source.channels, (source.mean, source.std), data, option)
    return _layered(network, quiet(source.module), head, name, inputs, source.channels, dropout, option)


def _layered(
    network: Network,
    body: nn.Module,
    head: nn.Linear,
    head_name: str | None,
    inputs: Inputs,
    channels: int,
    dropout: float,
    option: str,
) -> Foreign:
    layers, blocks = network.layers or [], network.blocks or []
    check_layers(body, layers, network.build, f"{option}.layers")
    check_layers(body, blocks, network.build, f"{option}.blocks")
    if layers:
        count = count_features(body, layers, channels, network.size, network.build, option)
        head = nn.Linear(count, head.out_features)
    return Foreign(body.train(), head, inputs, dropout, layers, blocks, head_name)


def _inputs(network: Network, in_channels: int, channels: int, own: tuple[Any, Any], data: Statistics, option: str) -> Inputs:
    """Statistics: those that were asked for, else those of the weights, else those of the data."""
    chosen = []
    for name, given, trained, of_data in zip(("mean", "std"), (network.mean, network.std), own, data, strict=True):
        if given is not None and (len(given) not in (1, in_channels, channels) or (name == "std" and min(given) <= 0)):
            bound = "one number, or one a channel" + (", each above 0" if name == "std" else "")
            raise InputError(f"{name} is {given} for images of {channels} channels: it is {bound} ({option}.{name})")
        found = given if given is not None else of_data if trained is None else mean_of(trained, channels)
        chosen.append(tuple(found))
    repeat = channels if channels != in_channels else 1
    return Inputs(chosen[0], chosen[1], network.size, network.resizing, repeat)
