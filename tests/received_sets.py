"""Received sets and workshops of given features, for tests of filters."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from poison_and_defend.defenses import Filter, Received, Verdict, Workshop

Train = Callable[[Sequence[Tensor]], list[nn.Module]]


def received_set(labels: Tensor, images: Tensor | None = None, told: int | None = None, **values: Any) -> Received:
    """A set of black images, unless others are given."""
    count = len(labels)
    images = torch.zeros(count, 1, 2, 2, dtype=torch.uint8) if images is None else images
    given = {"seed": 0, "num_classes": int(labels.max()) + 1} | values
    return Received(images, labels, torch.arange(count), bound=told, **given)


def workshop_of(features: Tensor | None = None, network: nn.Module | None = None, train: Train | None = None) -> Workshop:
    """A workshop that has what is given, and refuses whatever else is asked for."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("the filter asks for what it should not need")

    return Workshop(
        refuse if network is None else lambda: network,
        refuse if features is None else lambda: features,
        refuse if train is None else train,
    )


def judged(filter: Filter, features: Tensor | None, labels: Tensor, told: int | None = None, **values: Any) -> Verdict:
    """What a filter says of rows with these features, once it is checked."""
    received = received_set(labels, told=told, **values)
    return filter.judge(received, workshop_of(features)).check(received, filter.name)
