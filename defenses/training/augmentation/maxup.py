"""MaxUp, the worst of several augmentations of every image.

Gong, Ren, Ye, Liu, "MaxUp: Lightweight Adversarial Training with Data Augmentation Improves Neural Network Training",
CVPR 2021.

As a countermeasure to poisons: Borgnia et al., "Strong Data Augmentation Sanitizes Poisoning and Backdoor Attacks Without an
Accuracy Tradeoff", ICASSP 2021.
"""

from dataclasses import replace

import torch

from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.training.augmentation.cutout import check_hole, check_visible, with_holes
from poison_and_defend.defenses.training.base import Training, cross_entropies
from poison_and_defend.defenses.training.course import Run, Step


class MaxUp(Training):
    """Of several cutouts of every training image, train on the one with the largest loss.

    ``min_w E max_i L(x_i, w)`` over the copies ``x_i`` of an image, which is picked for by itself. Losses are compared in
    evaluation mode, where the paper's implementation does so in training mode: with batch statistics an image's copies would
    depend on its neighbours, and running statistics would be of as many times as many images. What is then descended is the
    loss in training mode, of the copies that were picked.

    Args:
        copies: Copies of each image in each step, 4 in Borgnia et al.
        warmup: Epochs of one random copy before that, 5 in Borgnia et al.
        side: Side of the covered square as a share of the image's shorter side.
        fill: Value of the covered pixels in [0, 1].

    Raises:
        InputError: If a value is out of range.
    """

    name = "maxup"
    label = "MaxUp"
    color = "#3f7f5f"

    def __init__(self, copies: int = 4, warmup: int = 5, side: float = 0.5, fill: float = 0.5) -> None:
        at_least("copies", copies, 2, "--*.copies 4", of="of MaxUp")
        at_least("warmup", warmup, 0, "--*.warmup 5", of="of MaxUp")
        check_hole(self.name, side, fill)
        self.copies, self.warmup, self.side, self.fill = copies, warmup, float(side), float(fill)

    def check(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        """See :meth:`Defense.check`."""
        check_visible(self.name, self.side, image_shape)

    def check_run(self, run: Run) -> None:
        """See :meth:`Training.check_run`."""
        if self.warmup >= run.epochs:
            raise InputError(
                f"warmup of MaxUp is {self.warmup}: of {run.epochs} epochs it must leave one (--*.warmup, --*recipe.epochs)"
            )

    def inputs(self, step: Step) -> Step:
        """See :meth:`Training.inputs`."""
        drawn = step.generators()
        copies = self.copies if step.epoch >= self.warmup else 1
        seen = [with_holes(step.inputs, self.side, self.fill, drawn) for _ in range(copies)]
        if copies == 1:
            return replace(step, inputs=seen[0])
        with torch.no_grad():
            worst = torch.stack([cross_entropies(step.logits(images), step) for images in seen]).argmax(0)
        picked = seen[0]
        for number, images in enumerate(seen[1:], 1):
            picked = torch.where((worst == number)[..., None, None, None], images, picked)
        return replace(step, inputs=picked)
