"""The interface of training recipes, and plain training."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from poison_and_defend.core.streams import step_generator
from poison_and_defend.defenses.base import Defense

State = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Step:
    """One step of m members of an ensemble, each with its own batch of B rows.

    Attributes:
        inputs: ``(m, B, C, H, W)`` float in [0, 1], augmented.
        labels: ``(m, B)`` int64.
        targets: ``(m, B, K)`` float, shares of the classes that the loss is taken against; None for the labels.
        rows: ``(m, B)`` int64, positions in each member's own training set.
        seeds: Of the members.
        number: Of the step, from 0.
        num_classes: K.
        logits: ``(m, B, C, H, W)`` float to ``(m, B, K)``, of the members in evaluation mode; differentiable.
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

    def generators(self) -> list[torch.Generator]:
        """One CPU generator a member, which depends on the member's seed and the step alone."""
        return [step_generator(seed, self.number, 1) for seed in self.seeds]


class Training(Defense):
    """Changes every step of all members of a block at once.

    Members must not see each other: what becomes of a member depends on its own part of every tensor, so that it equals a
    model that is trained alone.
    """

    def begin(self, members: int, rows: int) -> State:
        """What is remembered of ``members`` members with ``rows`` training rows each, on the CPU; by default nothing."""
        del members, rows
        return {}

    def inputs(self, step: Step) -> Step:
        """The step with other inputs or targets; by default as it is."""
        return step

    def losses(self, logits: Tensor, step: Step) -> Tensor:
        """Loss of every row, ``(m, B)``, whose mean a member's step descends; by default the cross-entropy.

        Args:
            logits: ``(m, B, K)``, of the members in training mode, for the inputs of the step.
            step: As :meth:`inputs` returned it.
        """
        if step.targets is None:
            return functional.cross_entropy(logits.flatten(0, 1), step.labels.flatten(), reduction="none").view_as(step.labels)
        return -(step.targets * logits.log_softmax(-1)).sum(-1)


class Plain(Training):
    """Training as the recipe says, and nothing else."""

    name = "plain"


def is_plain(training: Training) -> bool:
    """Whether a recipe changes nothing, so that shortcuts that look at no single step may be taken."""
    return type(training) is Plain


def own_losses(training: Training, step: Step) -> bool:
    """Whether a step descends anything but the mean cross-entropy with its labels."""
    return type(training).losses is not Training.losses or step.targets is not None
