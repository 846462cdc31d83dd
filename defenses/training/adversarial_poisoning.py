"""Adversarial poisoning: Geiping et al., "What Doesn't Kill You Makes You Robust(er)", arXiv:2102.13624, 2021."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from poison_and_defend.attacks.crafting.second_order import twice_differentiable
from poison_and_defend.attacks.threat.budget import Budget
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.lengths import parse_length
from poison_and_defend.defenses.training.base import Training, cross_entropies
from poison_and_defend.defenses.training.course import State, Step


class AdversarialPoisoning(Training):
    """Poison a part of every batch against the rest of it, and train on both parts with their true labels.

    The first half of a batch are targets, whose adversarial label is the most frequent label of the others; the others are
    poisoned by gradient matching (Geiping et al., "Witches' Brew", ICLR 2021, equation 3): from Gaussian noise of deviation
    ``eps``, within the ball, so many steps of signed Adam on ``1 - cos`` of the targets' gradient under the adversarial label
    and the poisons' under their own, members in evaluation mode, as the authors'. Without steps it is training with clipped
    Gaussian noise on half of each batch. In transfer learning the gradients are those of the heads.

    The authors step by .1 in units of the data's standard deviation; images here are as they are, and .02 is that for a
    deviation of .2. Adam's moments start anew with every batch.

    Args:
        eps: Radius of the linf ball in [0, 1] pixel units, a number or a fraction such as ``16/255``, the authors'.
        steps: Steps of signed Adam for each batch; each takes some training steps, since gradients are differentiated.
        step_size: Length of a step in [0, 1] pixel units.

    Raises:
        InputError: If a value is out of range.
    """

    name = "adversarial_poisoning"
    color = "#3d6c8c"

    def __init__(self, eps: float | str = "16/255", steps: int = 5, step_size: float | str = 0.02) -> None:
        at_least("steps", steps, 0, "--*.steps 5", of="of adversarial poisoning")
        self.eps, self.steps, self.step_size = _length("eps", eps), steps, _length("step_size", step_size)

    def inputs(self, step: Step) -> Step:
        """See :meth:`Training.inputs`."""
        count = step.labels.shape[1] // 2
        if count == 0:
            # A batch of one image has nobody to poison it against.
            return step
        targets, bases, budget = step.inputs[:, :count], step.inputs[:, count:], Budget("linf", self.eps)
        noise = torch.stack([torch.randn(bases.shape[1:], generator=one) for one in step.generators()])
        poisons = budget.project(bases + self.eps * noise.to(bases), bases)
        if self.steps:
            wanted = most_frequent(step.labels[:, count:], step.num_classes)[:, None].expand(-1, count)
            with twice_differentiable():
                goal = [value.detach() for value in _gradients(step, targets, wanted).values()]
            poisons = self._matched(step, goal, poisons, bases)
        return replace(step, inputs=torch.cat([targets, poisons], 1))

    def _matched(self, step: Step, goal: Sequence[Tensor], poisons: Tensor, bases: Tensor) -> Tensor:
        """Poisons of every member after all steps, each within the ball around its base."""
        budget, labels = Budget("linf", self.eps), step.labels[:, -bases.shape[1] :]
        poisons = poisons.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([poisons], lr=self.step_size)
        for _ in range(self.steps):
            with twice_differentiable():
                own = list(_gradients(step, poisons, labels).values())
                (gradient,) = torch.autograd.grad(distances(own, goal).sum(), [poisons])
            poisons.grad = gradient.sign()
            optimizer.step()
            with torch.no_grad():
                poisons.copy_(budget.project(poisons, bases))
        return poisons.detach()


def most_frequent(labels: Tensor, num_classes: int) -> Tensor:
    """``(m,)``: the most frequent of each member's labels ``(m, b)``; of several the smallest."""
    return torch.nn.functional.one_hot(labels, num_classes).sum(1).argmax(1)


def distances(own: Sequence[Tensor], goal: Sequence[Tensor]) -> Tensor:
    """``(m,)``: 1 less the cosine of each member's two gradients, over all its parameters ``(m, ...)``."""

    def products(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        return torch.stack([(a * b).flatten(1).sum(1) for a, b in zip(first, second, strict=True)]).sum(0)

    # A batch that is fitted perfectly has no direction, but must not give NaN.
    lengths = [products(side, side).clamp_min(1e-30).sqrt() for side in (own, goal)]
    return 1 - products(own, goal) / (lengths[0] * lengths[1])


def _gradients(step: Step, images: Tensor, labels: Tensor) -> State:
    part = replace(step, inputs=images, labels=labels, targets=None)
    return step.gradients(cross_entropies(step.logits(images), part).mean(1))


def _length(name: str, value: float | str) -> float:
    length = parse_length(value)
    if not (math.isfinite(length) and 0 < length <= 1):
        raise InputError(
            f"{name} of adversarial poisoning is {value!r}: it is a number or fraction in (0, 1], as 16/255 (--*.{name})"
        )
    return length
