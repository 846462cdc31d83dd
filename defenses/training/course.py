"""The course of a training as a recipe sees it: the run before it begins, its epochs and its steps."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from poison_and_defend.core.streams import step_generator

State = dict[str, Tensor]


def _no_gradients(losses: Tensor) -> State:
    raise NotImplementedError("whoever made this step gave it no way to the parameters")


@dataclass(frozen=True, eq=False)
class Step:
    """One step of m members of an ensemble, each with its own batch of B rows.

    Attributes:
        inputs: ``(m, B, C, H, W)`` float in [0, 1], augmented; features ``(m, B, F)`` where members are heads and the recipe
            changes no images.
        labels: ``(m, B)`` int64.
        targets: ``(m, B, K)`` float, shares of the classes that the loss is taken against; None for the labels.
        rows: ``(m, B)`` int64, positions in each member's own training set.
        seeds: Of the members.
        number: Of the step, from 0.
        num_classes: K.
        logits: ``(m, B, C, H, W)`` float to ``(m, B, K)``, of the members in evaluation mode; differentiable.
        gradients: Losses ``(m,)`` to the gradient of each by its own member's parameters, ``(m, ...)`` by name; differentiable.
        epoch: That the step belongs to, from 0.
        state: What the recipe remembers of these members, see :meth:`Training.begin`; it may be written to.
    """

    inputs: Tensor
    labels: Tensor
    rows: Tensor
    seeds: tuple[int, ...]
    number: int
    num_classes: int
    logits: Callable[[Tensor], Tensor]
    targets: Tensor | None = None
    state: State = field(default_factory=dict)
    gradients: Callable[[Tensor], State] = _no_gradients
    epoch: int = 0

    def generators(self) -> list[torch.Generator]:
        """One CPU generator a member, which depends on the member's seed and the step alone."""
        return [step_generator(seed, self.number, 1) for seed in self.seeds]

    def shares(self) -> Tensor:
        """Targets ``(m, B, K)``: those of the step, or all of each row's label."""
        if self.targets is not None:
            return self.targets
        return functional.one_hot(self.labels, self.num_classes).to(self.inputs)


@dataclass(frozen=True, eq=False)
class Epoch:
    """What m members are about to go through: all N rows of each one's own training set.

    Attributes:
        number: Of the epoch, from 0.
        epochs: How many there are.
        labels: ``(m, N)`` int64.
        places: ``(m, N)`` int64, equal where a set holds one row twice, as those that a filter left shorter than others do.
        seeds: Of the members.
        num_classes: K.
        heads: Whether members are linear heads on frozen features.
        inputs: Positions ``(b,)`` in the sets to ``(m, b, ...)`` float, as the pool holds them: without augmentation.
        logits: ``(m, b, ...)`` float to ``(m, b, K)``, of the members in evaluation mode; differentiable.
        state: What the recipe remembers of these members; it may be written to.
    """

    number: int
    epochs: int
    labels: Tensor
    places: Tensor
    seeds: tuple[int, ...]
    num_classes: int
    heads: bool
    inputs: Callable[[Tensor], Tensor]
    logits: Callable[[Tensor], Tensor]
    state: State

    def generators(self) -> list[torch.Generator]:
        """One CPU generator a member, which depends on the member's seed and the epoch alone, and is that of no step."""
        return [step_generator(seed, -1 - self.number, 1) for seed in self.seeds]


@dataclass(frozen=True)
class Run:
    """What is known of a victim's training before it begins.

    Attributes:
        rows: Of its training set.
        batch_size: Rows of a step.
        epochs: How often it goes through them.
        heads: Whether it is a linear head on frozen features.
        num_classes: Of the data set.
        poisons: How many of the rows an attacker changed.
    """

    rows: int
    batch_size: int
    epochs: int
    heads: bool
    num_classes: int
    poisons: int
