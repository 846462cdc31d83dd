"""What victims come to see of poisons, and the mean of an objective over it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from poison_and_defend.attacks.crafting.augmentation import Augmentation, augment


@dataclass(frozen=True, eq=False)
class View:
    """One way in which victims may see the poisons of every setup: each through a random augmentation of its own.

    Attributes:
        shifts: ``(S, k, 3)`` from :func:`poison_and_defend.attacks.crafting.augmentation.draw_augmentation`; None for images
            as they are.
        max_shift: Largest shift as a share of the image's side.
    """

    shifts: Tensor | None = None
    max_shift: float = 0.0

    def see(self, images: Tensor) -> Tensor:
        """Images ``(S, k, C, H, W)`` float as they are seen, of the same shape."""
        if self.shifts is None:
            return images
        return augment(images.flatten(0, 1), self.shifts.flatten(0, 1).to(images.device), self.max_shift).view_as(images)

    def part(self, setup: int, rows: Tensor) -> "View":
        """The same of some poisons of one setup."""
        return self if self.shifts is None else View(self.shifts[setup, rows][None], self.max_shift)


def draw_views(known: Augmentation | None, count: int, generators: Sequence[torch.Generator]) -> list[View]:
    """What a step looks at: the views over which its objective is averaged.

    Args:
        known: The victims' augmentation; None for nothing.
        count: Poisons of a setup.
        generators: One a setup, on the CPU.
    """
    return [View() if not known else View(known.draw(count, generators), known.max_shift)]


def mean_gradient(images: Tensor, views: Sequence[View], objective: Callable[[Tensor, int], Tensor]) -> tuple[Tensor, Tensor]:
    """The mean over views of an objective, and the gradient of its sum; one view after another, so that memory is one's.

    Args:
        images: ``(S, k, C, H, W)`` float.
        objective: What is seen of the images, and the number of the view, to values of any shape.

    Returns:
        Values, and the gradient in the shape of the images.
    """
    images = images.detach().requires_grad_()
    means: list[Tensor] = []
    for number, view in enumerate(views):
        values = objective(view.see(images), number)
        (gradient,) = torch.autograd.grad(values.sum(), [images])
        parts = [values.detach() / len(views), gradient / len(views)]
        means = [mean + part for mean, part in zip(means, parts, strict=True)] if means else parts
    return means[0], means[1]
