"""The interface of training recipes, and plain training."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from poison_and_defend.core.streams import step_generator
from poison_and_defend.defenses.base import Defense

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


class Training(Defense):
    """Changes every step of all members of a block at once.

    Members must not see each other: what becomes of a member depends on its own part of every tensor, so that it equals a
    model that is trained alone.
    """

    changes_images: ClassVar[bool] = True
    """Whether it looks at images. Heads of a recipe that does not are trained on features that are computed once."""

    def check_network(self, network: nn.Module, option: str) -> None:
        """Refuse a network that is trained whole, in training mode, before anything is trained.

        Args:
            option: What sentences call it.

        Raises:
            InputError: If it cannot be trained so.
        """

    def check_run(self, run: Run) -> None:
        """Refuse a training in which it could not work, before anything is trained.

        Raises:
            InputError: If it could not.
        """

    def facts(self, run: Run) -> dict[str, float]:
        """What is provable or known of such a training in advance, for its records; by default nothing."""
        del run
        return {}

    def begin(self, members: int, rows: int) -> State:
        """What is remembered of ``members`` members with ``rows`` training rows each, on the CPU; by default nothing."""
        del members, rows
        return {}

    def between_epochs(self, epoch: Epoch) -> None:
        """Look at all rows before each epoch, and write what was found into ``epoch.state``; by default nothing."""

    def kept(self, state: State) -> Tensor | None:
        """``(m, N)`` bool: the rows that members still train on, asked before each epoch; None, the default, for all."""
        del state
        return None

    def unaugmented(self, step: Step) -> Step:
        """The step with other images, before they are augmented; by default as it is."""
        return step

    def inputs(self, step: Step) -> Step:
        """The step with other inputs or targets; by default as it is."""
        return step

    def losses(self, logits: Tensor, step: Step) -> Tensor:
        """Loss of every row, ``(m, B)``, whose mean a member's step descends; by default the cross-entropy.

        Args:
            logits: ``(m, B, K)``, of the members in training mode, for the inputs of the step.
            step: As :meth:`inputs` returned it.
        """
        return cross_entropies(logits, step)

    def row_factors(self, norms: Tensor) -> Tensor:
        """What each row's own gradient of the cross-entropy is multiplied by before the mean is taken; by default nothing.

        Overriding it makes steps some times as long: every row's gradient is computed by itself.

        Args:
            norms: Of those gradients, over all parameters of a member, of any shape; factors have the same.
        """
        return torch.ones_like(norms)

    def gradient(self, gradients: State, step: Step) -> State:
        """What the optimiser is given; by default the gradients of the members' mean losses as they are.

        Args:
            gradients: ``(m, ...)`` by the parameter's name.
            step: As :meth:`inputs` returned it.
        """
        del step
        return gradients


class Plain(Training):
    """Training as the recipe says, and nothing else."""

    name = "plain"
    changes_images = False


def cross_entropies(logits: Tensor, step: Step) -> Tensor:
    """Cross-entropy ``(m, B)`` of logits ``(m, B, K)`` with the targets of a step, or with its labels if it has none."""
    if step.targets is None:
        return functional.cross_entropy(logits.flatten(0, 1), step.labels.flatten(), reduction="none").view_as(step.labels)
    return -(step.targets * logits.log_softmax(-1)).sum(-1)


def is_plain(training: Training) -> bool:
    """Whether a recipe changes nothing, so that shortcuts that look at no single step may be taken."""
    return type(training) is Plain


def overrides(training: Training, method: str) -> bool:
    """Whether a recipe has a method of its own, so that what would have to be prepared for it is worth it."""
    return getattr(type(training), method) is not getattr(Training, method)


def own_losses(training: Training, step: Step) -> bool:
    """Whether a step descends anything but the mean cross-entropy with its labels."""
    return overrides(training, "losses") or step.targets is not None
