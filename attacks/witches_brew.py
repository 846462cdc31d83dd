"""Witches' Brew: make the poisons' training gradient point where the attacker's would.

Geiping, Fowl, Huang, Czaja, Taylor, Moeller, Goldstein, "Witches' Brew: Industrial Scale Data Poisoning via Gradient
Matching" (ICLR 2021).
"""

from torch import Tensor

from poison_and_defend.attacks.gradient_matching import GradientMatching
from poison_and_defend.attacks.threat.budget import Norm
from poison_and_defend.attacks.threat.surrogate import CraftBatch


class WitchesBrew(GradientMatching):
    """Algorithm 1 of the paper: gradient matching with signed Adam, restarts and differentiable augmentation.

    The gradient to match is that of the mean loss of the targets, one in most experiments, under the adversarial label
    (equation 2); see :class:`GradientMatching` for the rest.

    Args:
        eps: Budget radius, 16/255 (linf) in the paper.
        norm: ``linf`` as in the paper, or ``l2``.
        steps: Steps per restart, 250 in the paper.
        learning_rate: Adam's step in [0, 1] pixel units, of one surrogate; of K it is divided by K.
        restarts: Independent starts, 8 in the paper; the lowest final objective is kept.
        max_shift: Largest random translation as a share of the side, 4/32 on CIFAR-10; 0 turns it off.
        flip: Whether views are mirrored at random.
        poison_batch: How many poisons are matched together, 512 in the paper; bounds memory.
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
    ) -> None:
        super().__init__(eps, norm, steps, learning_rate, restarts, max_shift, flip, poison_batch)

    def goal_images(self, batch: CraftBatch) -> Tensor:
        """See :meth:`GradientMatching.goal_images`."""
        return batch.targets
