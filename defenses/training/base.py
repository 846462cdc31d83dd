"""The interface of training recipes, and plain training."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from poison_and_defend.defenses.base import Defense
from poison_and_defend.defenses.training.course import Epoch, Run, State, Step


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
