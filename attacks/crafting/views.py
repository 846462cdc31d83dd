"""What victims come to see of poisons, and the mean of an objective over it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from poison_and_defend.attacks.crafting.augmentation import Augmentation, augment
from poison_and_defend.attacks.threat.sanitizing import Realisation, Sanitizing
from poison_and_defend.attacks.threat.surrogate import CraftBatch

# Not powers of 2**32 apart: PyTorch's generator on a CPU takes the lower 32 bits of its seed.
DEFENSE_STREAM = 1_000_003
"""Of the randomness of a defence, apart from those of attacks, which are counted from 0."""

HELD_OUT_STREAM = 2_000_003
"""Of the draws that no step sees."""


@dataclass(frozen=True, eq=False)
class View:
    """One way in which victims may see the poisons of every setup: sanitized, and each through an augmentation of its own.

    Attributes:
        shifts: ``(S, k, 3)`` from :func:`poison_and_defend.attacks.crafting.augmentation.draw_augmentation`; None for images
            that are not augmented.
        max_shift: Largest shift as a share of the image's side.
        sanitized: What a known defence makes of the poisons first; None for nothing.
    """

    shifts: Tensor | None = None
    max_shift: float = 0.0
    sanitized: Realisation | None = None

    def see(self, images: Tensor) -> Tensor:
        """Images ``(S, k, C, H, W)`` float as they are seen, of the same shape."""
        if self.sanitized is not None:
            images = self.sanitized.of(images)
        if self.shifts is None:
            return images
        return augment(images.flatten(0, 1), self.shifts.flatten(0, 1).to(images.device), self.max_shift).view_as(images)

    def part(self, setup: int, rows: Tensor) -> "View":
        """The same of some poisons of one setup."""
        shifts = None if self.shifts is None else self.shifts[setup, rows.cpu()][None]
        return View(shifts, self.max_shift, None if self.sanitized is None else self.sanitized.part(setup, rows))


class Sight:
    """What an attack looks at, step by step: the views over which its objective is averaged.

    Args:
        batch: Whose defence, if one is known, poisons go through.
        known: The victims' augmentation, as far as the attacker knows of it; None for nothing.
        lanes: How many times the batch's setups are crafted beside each other, as by restarts.
    """

    def __init__(self, batch: CraftBatch, known: Augmentation | None, lanes: int = 1) -> None:
        self.known, self.sanitizing, self._batch, self._lanes = known, batch.sanitizing, batch, lanes
        self.generators = [generator for lane in range(lanes) for generator in batch.generators(lane)]
        self._noise = [generator for lane in range(lanes) for generator in batch.generators(DEFENSE_STREAM + lane)]
        self._keys, self._shape = batch.keys.repeat(lanes, 1), batch.bases.shape[2:]

    def views(self) -> list[View]:
        """Of the next step: as many as the known defence is drawn, or one."""
        count = self._keys.shape[1]

        def shifts() -> tuple[Tensor | None, float]:
            return (self.known.draw(count, self.generators), self.known.max_shift) if self.known else (None, 0.0)

        return [View(*shifts(), sanitized) for sanitized in self._sanitized()]

    def settled(self) -> list[View]:
        """What a finished set of poisons is measured on: as the known defence leaves it, without an augmentation."""
        return [View(sanitized=sanitized) for sanitized in self._sanitized()]

    def watch(self, step: int, steps: int, value: Callable[[list[View]], Tensor]) -> None:
        """Tell the batch of the objective at a quarter, half and the end, on draws that no step sees, each time the same.

        Whether an attack through a random defence converged can be told from these alone (Tramer et al., NeurIPS 2020).

        Args:
            step: How many are done, of ``steps``.
            value: Views to the objective of each setup, ``(S,)``; must leave the attack as it is.
        """
        if self.sanitizing is None or not watched(self._batch, step, steps):
            return
        noise = [generator for lane in range(self._lanes) for generator in self._batch.generators(HELD_OUT_STREAM + lane)]
        drawn = self._sanitized(noise, held_out(self.sanitizing))
        assert self._batch.watch is not None
        self._batch.watch(step, value([View(sanitized=sanitized) for sanitized in drawn]).detach())

    def _sanitized(self, noise: list[torch.Generator] | None = None, draws: int | None = None) -> list[Realisation | None]:
        if self.sanitizing is None:
            return [None]
        shape = (self._shape[0], self._shape[1], self._shape[2])
        count, own = self.sanitizing.draws if draws is None else draws, self._noise if noise is None else noise
        return [self.sanitizing.draw(self._keys, shape, own) for _ in range(count)]


def watched(batch: CraftBatch, step: int, steps: int) -> bool:
    """Whether the objective on held-out draws is wanted after so many steps."""
    if batch.sanitizing is None or not held_out(batch.sanitizing):
        return False
    return batch.watch is not None and step in (-(-steps // 4), -(-steps // 2), steps)


def held_out(sanitizing: Sanitizing) -> int:
    """Over how many draws of a defence a finished step is measured: all that there are, or other ones of a random one."""
    return sanitizing.held_out if sanitizing.random else sanitizing.draws


def mean_gradient(images: Tensor, views: Sequence[View], objective: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The mean over views of an objective, and the gradient of its sum; one view after another, so that memory is one's.

    Args:
        images: ``(S, k, C, H, W)`` float.
        objective: What is seen of the images, to values of any shape.

    Returns:
        Values, and the gradient in the shape of the images.
    """
    images = images.detach().requires_grad_()
    means: list[Tensor] = []
    for view in views:
        values = objective(view.see(images))
        (gradient,) = torch.autograd.grad(values.sum(), [images])
        parts = [values.detach() / len(views), gradient / len(views)]
        means = [mean + part for mean, part in zip(means, parts, strict=True)] if means else parts
    return means[0], means[1]


@torch.no_grad()
def mean_value(images: Tensor, views: Sequence[View], objective: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean over views of an objective; see :func:`mean_gradient`."""
    total: Tensor | None = None
    for view in views:
        value = objective(view.see(images)) / len(views)
        total = value if total is None else total + value
    assert total is not None
    return total
