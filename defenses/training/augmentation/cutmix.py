"""CutMix: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019.

As a countermeasure to poisons: Borgnia et al., "Strong Data Augmentation Sanitizes Poisoning and Backdoor Attacks Without an
Accuracy Tradeoff", ICASSP 2021.
"""

from dataclasses import replace

import torch
from torch import Tensor

from poison_and_defend.core.bounds import above, at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.training.augmentation.pairing import draw_beta, draw_partners
from poison_and_defend.defenses.training.base import Training
from poison_and_defend.defenses.training.course import Step


class CutMix(Training):
    """Paste a box of one training image into another, and mix their labels by the pixels of each: equations (1) and (2).

    Of a batch every image gets the box of its partner in a random permutation; box and ``lambda`` ~ Beta(alpha, alpha) are
    drawn once a batch, as in the paper's implementation. The box has ``1 - lambda`` of the pixels, its centre anywhere; where
    it is cut off at the border, labels follow the pixels that are left, as there. torchvision's transform is not used: it pairs
    each image with the one before it in the loader's order, and draws from the global generator.

    Args:
        alpha: Both parameters of the Beta distribution; 1, the paper's, draws the share of pixels uniformly.
        probability: Of a batch being mixed at all, 0.5 in Borgnia et al. as in the paper on CIFAR.

    Raises:
        InputError: If a value is out of range.
    """

    name = "cutmix"
    label = "CutMix"
    color = "#6fae6a"

    def __init__(self, alpha: float = 1.0, probability: float = 0.5) -> None:
        above("alpha", alpha, 0, "--*.alpha", of="of CutMix")
        if alpha == float("inf"):
            raise InputError("alpha of CutMix is inf: it must be a finite number (--*.alpha)")
        at_least("probability", probability, 0, "--*.probability", of="of CutMix")
        if probability > 1:
            raise InputError(f"probability of CutMix is {probability:g}: it must be at most 1 (--*.probability)")
        self.alpha, self.probability = float(alpha), float(probability)

    def inputs(self, step: Step) -> Step:
        """See :meth:`Training.inputs`."""
        drawn = step.generators()
        partners = draw_partners(drawn, step.labels)
        weights = draw_beta(drawn, self.alpha)
        boxes = torch.stack([self._box(step.inputs, share, one) for share, one in zip(weights, drawn, strict=True)])
        boxes = boxes.to(step.inputs.device)[:, None, None]
        member = torch.arange(len(drawn), device=partners.device)[:, None]
        own = 1 - boxes.flatten(1).to(step.inputs).mean(1).reshape(-1, 1, 1)
        targets = step.shares()
        return replace(
            step,
            inputs=torch.where(boxes, step.inputs[member, partners], step.inputs),
            targets=own * targets + (1 - own) * targets[member, partners],
        )

    def _box(self, inputs: Tensor, weight: Tensor, drawn: torch.Generator) -> Tensor:
        """``(H, W)`` bool: the pixels that come from the partner."""
        height, width = inputs.shape[-2:]
        mixed, down, across = torch.rand(3, generator=drawn, dtype=torch.float64).tolist()
        if mixed >= self.probability:
            return torch.zeros(height, width, dtype=torch.bool)
        side = float(1 - weight) ** 0.5
        return box(height, width, (int(down * height), int(across * width)), (int(side * height), int(side * width)))


def box(height: int, width: int, centre: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """``(height, width)`` bool: a rectangle around a pixel, which ends at the image's border."""
    rows, columns = (
        (torch.arange(count) >= middle - length // 2) & (torch.arange(count) < middle - length // 2 + length)
        for count, middle, length in zip((height, width), centre, size, strict=True)
    )
    return rows[:, None] & columns[None]
