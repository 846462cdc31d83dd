"""Projected gradient ascent on the loss of images: the inner problem of label-consistent poisons and of robust training.

Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks" (ICLR 2018).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from poison_and_defend.attacks.threat.budget import Budget

Losses = Callable[[Tensor], Tensor]
"""Images ``(..., C, H, W)`` to one loss each ``(...)``; no image's loss may depend on another image."""


def pgd(
    losses_of: Losses,
    start: Tensor,
    bases: Tensor,
    budget: Budget,
    *,
    steps: int,
    step_size: float,
    progress: Callable[[Tensor], None] = lambda losses: None,
    moved: Callable[[int, Tensor], None] = lambda step, images: None,
) -> Tensor:
    """Raise every image's own loss within its budget: ``x <- P(x + a * direction)``, section 2.1 of the paper.

    The direction of steepest ascent is the sign of the gradient for ``linf``, and for ``l2`` the gradient scaled to length
    one, image by image; so the scale of the losses does not matter, and a batch equals its images one by one.

    Args:
        losses_of: What is raised; only the gradient of the images is taken, parameters collect none.
        start: ``(..., C, H, W)`` float, in the budget: the bases, or :func:`uniform_in_ball`.
        bases: ``(..., C, H, W)`` float in [0, 1], one for each image.
        budget: The ball around each base.
        steps: Number of steps.
        step_size: Length of a step in [0, 1] pixel units: of every pixel for ``linf``, of the whole image for ``l2``.
        progress: Called at every step with the losses ``(...)`` before it.
        moved: Called after every step with how many there were, and the images.

    Returns:
        The images after the last step, of the same shape, in the budget.
    """
    images = start.detach()
    for step in range(steps):
        images.requires_grad_()
        losses = losses_of(images)
        (gradient,) = torch.autograd.grad(losses.sum(), [images])
        progress(losses.detach())
        images = budget.project(images.detach() + step_size * _ascent(gradient, budget), bases)
        moved(step + 1, images)
    return images


def _ascent(gradient: Tensor, budget: Budget) -> Tensor:
    if budget.norm == "linf":
        return gradient.sign()
    length: Tensor = gradient.flatten(-3).norm(dim=-1)[..., None, None, None]
    # An image whose loss is flat has no direction: it stays where it is, and must not turn into NaN.
    return gradient / length.clamp_min(torch.finfo(gradient.dtype).tiny)


def uniform_in_ball(bases: Tensor, budget: Budget, generator: torch.Generator) -> Tensor:
    """A uniform point of each base's ball, then clipped to [0, 1]: a random start.

    Args:
        bases: ``(..., C, H, W)`` float in [0, 1], on any device.
        budget: The ball.
        generator: On the CPU, so that every device starts from the same point.
    """
    shape = bases.shape
    if budget.norm == "linf":
        offset = (torch.rand(shape, generator=generator) * 2 - 1) * budget.eps
    else:
        direction = torch.randn(shape, generator=generator)
        direction /= direction.flatten(-3).norm(dim=-1)[..., None, None, None]
        # The share of a ball's volume within radius r grows as r to the power of its dimension.
        radius = torch.rand(shape[:-3], generator=generator) ** (1 / math.prod(shape[-3:]))
        offset = direction * (radius * budget.eps)[..., None, None, None]
    return budget.project(bases + offset.to(bases), bases)


def default_step_size(eps: float, steps: int) -> float:
    """2.5 radii over all steps: far enough to reach the border from any start, and to move along it (Madry et al.)."""
    return 2.5 * eps / steps
