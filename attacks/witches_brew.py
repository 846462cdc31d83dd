"""Witches' Brew: make the poisons' training gradient point where the attacker's would.

Geiping, Fowl, Huang, Czaja, Taylor, Moeller, Goldstein, "Witches' Brew: Industrial Scale Data Poisoning via Gradient
Matching" (ICLR 2021).
"""

import math
from typing import Any

from torch import Tensor

from poison_and_defend.attacks.gradient_matching import GradientMatching
from poison_and_defend.attacks.threat.budget import Norm
from poison_and_defend.attacks.threat.surrogate import CraftBatch
from poison_and_defend.core.errors import InputError


class WitchesBrew(GradientMatching):
    """Algorithm 1 of the paper: gradient matching with signed Adam, restarts and differentiable augmentation.

    The gradient to match is that of the mean loss of the targets, one in most experiments, under the adversarial label
    (equation 2); see :class:`GradientMatching` for the rest.

    With ``sharpness`` above 0 this is SAPA, He, Xu, Ren, Cui, Zeng, Liu, Aggarwal, Tang, "Sharpness-Aware Data Poisoning
    Attack" (ICLR 2024), combined with gradient matching. The gradient to match is that of the worst case over weights near
    the surrogate's, ``max over ||v|| <= rho of L(w + v)``, L being the loss of the targets under the adversarial label. One
    step, ``v = rho g / ||g||`` with g the gradient of L at w, stands for the maximum; ``g_t`` is the gradient of L at w + v
    and the gradient of the poisons, ``g_p``, stays at w, as in the authors' code. There v follows gradients that are left
    over from training, if any are, since what was computed for it is not used: we took that for an oversight.

    Args:
        eps: Budget radius, 16/255 (linf) in the paper.
        norm: ``linf`` as in the paper, or ``l2``.
        steps: Steps per restart, 250 in the paper.
        learning_rate: Adam's step in [0, 1] pixel units, of one surrogate; of K it is divided by K.
        restarts: Independent starts, 8 in the paper; the lowest final objective is kept.
        max_shift: Largest random translation as a share of the side, 4/32 on CIFAR-10; 0 turns it off.
        flip: Whether views are mirrored at random.
        poison_batch: How many poisons are matched together, 512 in the paper; bounds memory.
        sharpness: Radius rho (l2, over all weights) of SAPA's move uphill, 0.05 in its authors' code; 0 for Witches' Brew.
    """

    scenarios = frozenset({"from_scratch", "fine_tune"})
    name = "witches_brew"
    several_targets = True

    def __init__(
        self,
        eps: float | str = "16/255",
        norm: Norm = "linf",
        steps: int = 250,
        learning_rate: float = 0.02,
        restarts: int = 8,
        max_shift: float = 0.125,
        flip: bool = True,
        poison_batch: int = 512,
        sharpness: float = 0.0,
    ) -> None:
        super().__init__(eps, norm, steps, learning_rate, restarts, max_shift, flip, poison_batch)
        if not (math.isfinite(sharpness) and sharpness >= 0):
            raise InputError(f"sharpness is {sharpness:g}: it is at least 0, which is off, and finite (--attack.sharpness)")
        self.sharpness = float(sharpness)

    @property
    def variant(self) -> str:
        """See :attr:`Attack.variant`."""
        return f"sharpness {self.sharpness:g}" if self.sharpness else ""

    def arguments(self) -> dict[str, Any]:
        """See :meth:`Attack.arguments`."""
        said = super().arguments()
        if not self.sharpness:
            # Poisons that were made before there was a choice are those without it, and keep their digest.
            del said["sharpness"]
        return said

    def goal_images(self, batch: CraftBatch) -> Tensor:
        """See :meth:`GradientMatching.goal_images`."""
        return batch.targets
