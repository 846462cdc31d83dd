"""Adversarial training: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018."""

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from poison_and_defend.attacks.crafting.pgd import default_step_size, pgd, uniform_in_ball
from poison_and_defend.attacks.threat.budget import Budget, Norm
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.lengths import parse_length
from poison_and_defend.defenses.training.base import Training
from poison_and_defend.defenses.training.course import Step


class Adversarial(Training):
    """Every training image is replaced by one within a ball around it that the current weights find hard: equation (2.1).

    Members are in evaluation mode meanwhile: the ascent would otherwise push as many batches of half-made examples through the
    running statistics of batch normalization as it has steps, where training sees one; and with batch statistics an image's
    example would depend on its neighbours.

    Args:
        eps: Radius of the ball in [0, 1] pixel units, a number or a fraction such as ``8/255``, at least 1/255.
        norm: Norm of the radius, ``linf`` or ``l2``.
        steps: Ascent steps for each batch, each about as long as a training step.
        step_size: Length of one ascent step in [0, 1] pixel units; null for 2.5 radii over all steps.

    Raises:
        InputError: If a value is out of range.
    """

    name = "adversarial"
    label = "adversarial training"
    color = "#5a6a7a"

    def __init__(
        self, eps: float | str = "8/255", norm: Norm = "linf", steps: int = 7, step_size: float | str | None = None
    ) -> None:
        at_least("steps", steps, 1, of="of adversarial training")
        if norm not in ("linf", "l2"):
            raise InputError(f"norm of adversarial training is {norm!r}: it is linf or l2 (--*.norm)")
        radius = _radius("eps", eps)
        if radius * 255 < 1 - 1e-6:
            raise InputError(f"eps of adversarial training is {radius:g}: it is at least 1/255 (--*.eps)")
        if norm == "linf" and radius > 1:
            raise InputError(
                f"eps of adversarial training is {radius:g}: for linf it is at most 1, the whole pixel range (--*.eps)"
            )
        length = default_step_size(radius, steps) if step_size is None else _radius("step_size", step_size)
        if length == 0:
            raise InputError(
                "step_size of adversarial training is 0: it must be above 0, or null for 2.5 eps / steps (--*.step_size)"
            )
        self.eps, self.norm, self.steps, self.step_size = radius, norm, steps, length

    @property
    def budget(self) -> Budget:
        """What is searched in."""
        return Budget(self.norm, self.eps)

    def inputs(self, step: Step) -> Step:
        """See :meth:`Training.inputs`."""
        clean, budget = step.inputs, self.budget

        def losses_of(hard: Tensor) -> Tensor:
            logits = step.logits(hard)
            return functional.cross_entropy(logits.flatten(0, 1), step.labels.flatten(), reduction="none").view(
                step.labels.shape
            )

        starts = [uniform_in_ball(own, budget, drawn) for own, drawn in zip(clean, step.generators(), strict=True)]
        hard = pgd(losses_of, torch.stack(starts), clean, budget, steps=self.steps, step_size=self.step_size)
        return replace(step, inputs=hard)


def _radius(name: str, value: float | str) -> float:
    radius = parse_length(value)
    if not (math.isfinite(radius) and radius >= 0):
        raise InputError(
            f"{name} of adversarial training is {value!r}: it is a number or a fraction such as 8/255, not below 0 (--*.{name})"
        )
    return radius
