"""What an attacker who knows the defence believes that poisons go through before a victim trains on them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Realisation:
    """What a defence makes of the poisons of every setup under one draw of its randomness.

    Attributes:
        rewrite: Images ``(n, C, H, W)`` float in [0, 1] and the randomness of each, ``(n, ...)``, to what victims get of them,
            differentiable in the images.
        drawn: ``(S, k, ...)``: the randomness of every poison.
    """

    rewrite: Callable[[Tensor, Tensor], Tensor]
    drawn: Tensor

    def of(self, images: Tensor) -> Tensor:
        """Images ``(S, k, C, H, W)`` as victims get them."""
        return self.rewrite(images.flatten(0, 1), self.drawn.flatten(0, 1).to(images)).view_as(images)

    def part(self, setup: int, rows: Tensor) -> "Realisation":
        """The same of some poisons of one setup."""
        return Realisation(self.rewrite, self.drawn[setup, rows.cpu()][None])


class Sanitizing(ABC):
    """A defence that rewrites images, as the attacker has it, and over how much of its randomness he averages.

    Attributes:
        draws: Realisations that an attack looks at in every step.
        random: Whether these are others in every step.
        held_out: Draws that no step sees, on which the objective is told on the way where they are random; 0 for not at all.
    """

    draws: int = 1
    random: bool = True
    held_out: int = 64

    @abstractmethod
    def draw(self, keys: Tensor, image_shape: tuple[int, int, int], generators: Sequence[torch.Generator]) -> Realisation:
        """One realisation.

        Args:
            keys: ``(S, k)`` int64: what the defence's own randomness is keyed by, the poisons' rows in the training set.
            image_shape: ``(C, H, W)``.
            generators: One a setup, on the CPU.
        """
