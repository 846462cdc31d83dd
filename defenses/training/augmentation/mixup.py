"""Mixup: Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018.

As a countermeasure to poisons: Borgnia et al., "Strong Data Augmentation Sanitizes Poisoning and Backdoor Attacks Without an
Accuracy Tradeoff", ICASSP 2021.
"""

from dataclasses import replace

import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.training.augmentation.pairing import draw_beta, draw_partners
from poison_and_defend.defenses.training.base import Training
from poison_and_defend.defenses.training.course import Step


class Mixup(Training):
    """Train on convex combinations of pairs of images, and of their labels: equation (2).

    As the paper's own implementation does, a batch is mixed with a random permutation of itself, under one ``lambda`` a batch
    drawn from Beta(alpha, alpha); the order of the loader is not used for pairing.

    Args:
        alpha: Both parameters of the Beta distribution; 1 draws the weight uniformly, and towards 0 nothing is mixed.

    Raises:
        InputError: If alpha is not above 0.
    """

    name = "mixup"
    color = "#4f8f4f"

    def __init__(self, alpha: float = 1.0) -> None:
        if not 0 < alpha < float("inf"):
            raise InputError(f"alpha is {alpha:g}: it must be a number above 0 (--arms.{self.name}.alpha)")
        self.alpha = float(alpha)

    def inputs(self, step: Step) -> Step:
        """See :meth:`Training.inputs`."""
        drawn = step.generators()
        partners = draw_partners(drawn, step.labels)
        weights = draw_beta(drawn, self.alpha).to(step.inputs)
        weight = weights.reshape(-1, 1, *[1] * (step.inputs.ndim - 2))
        targets, shares = step.shares(), weights.reshape(-1, 1, 1)
        member = torch.arange(len(drawn), device=partners.device)[:, None]
        return replace(
            step,
            inputs=weight * step.inputs + (1 - weight) * step.inputs[member, partners],
            targets=shares * targets + (1 - shares) * targets[member, partners],
        )
