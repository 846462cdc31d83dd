"""Label-consistent backdoor: images of the adversarial class that are hard to learn, with a trigger that is easy to learn.

Turner, Tsipras, Madry, "Label-Consistent Backdoor Attacks" (arXiv:1912.02771, 2019).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from poison_and_defend.attacks.base import Attack
from poison_and_defend.attacks.crafting.pgd import default_step_size, pgd, uniform_in_ball
from poison_and_defend.attacks.crafting.views import Sight, View
from poison_and_defend.attacks.threat.budget import Norm
from poison_and_defend.attacks.threat.surrogate import CraftBatch, Surrogate
from poison_and_defend.attacks.threat.trigger import CornerTrigger, TriggerConfig
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.lengths import parse_length


class LabelConsistent(Attack):
    """The paper's variant with adversarial perturbations (its other one interpolates in a GAN), then the trigger.

    Maximises ``CE(f(x'), y)`` over ``||x' - x||_p <= eps`` by projected gradient ascent from the base image, where y is the
    base's own label, the adversarial one, and f is trained adversarially and independent of any victim: perturbations that
    fool a robust model change what is seen, and so stay hard for other models. With several such models their mean logits
    are f, where the paper has one. The reported objective is the mean probability that f gives the true label: it falls.

    The paper starts from the image itself; its trigger is stamped on the finished poison and is no part of the budget.

    Args:
        eps: Budget radius without the trigger; the paper's perturbed images have 8, 16 or 32 / 255 (linf).
        norm: ``linf`` or ``l2``, both in the paper.
        steps: Ascent steps, 100 in the authors' data.
        step_size: Of one step in [0, 1] pixel units, 1.5/255 in the authors' data (linf); null for 2.5 eps / steps.
        trigger: What is stamped; null for the paper's pattern in all four corners.
        visible: Whether poisons carry the trigger on top of the budget, as in the paper. Otherwise it is stamped before a
            last projection into the budget, as the public benchmark does (Schwarzschild et al., 2021), and nearly vanishes.
        random_start: Whether the ascent starts anywhere in the budget, as in the benchmark, instead of at the image.
    """

    scenarios = frozenset({"transfer", "fine_tune", "from_scratch"})
    name = "label_consistent"
    looks_through = True
    goal = "others"
    uses_logits = True
    robust_surrogates = True

    def __init__(
        self,
        eps: float | str = "16/255",
        norm: Norm = "linf",
        steps: int = 100,
        step_size: float | str | None = None,
        trigger: TriggerConfig | None = None,
        visible: bool = True,
        random_start: bool = False,
    ) -> None:
        super().__init__(eps, norm, steps)
        self.step_size = default_step_size(self.budget.eps, steps) if step_size is None else _parse_step_size(step_size)
        self.trigger = CornerTrigger() if trigger is None else trigger
        self.visible_trigger = visible
        self.random_start = random_start
        if getattr(self.trigger, "placement", None) == "random":
            raise InputError(
                f"placement of the trigger is random: {self.name} needs it in one place for all images, such as bottom_right "
                "(--attack.trigger.placement)"
            )

    def perturb(
        self, batch: CraftBatch, surrogates: Sequence[Surrogate], progress: Callable[[Tensor], None]
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`Attack.perturb`."""
        sight = Sight(batch, self.augmentation)

        def over(views: Sequence[View], images: Tensor) -> Tensor:
            return torch.stack([true_label_loss(view.see(images), batch.base_labels, surrogates) for view in views]).mean(0)

        def losses_of(images: Tensor) -> Tensor:
            return over(sight.views(), images)

        def moved(step: int, images: Tensor) -> None:
            with torch.no_grad():
                sight.watch(step, self.steps, lambda views: mean_probability(over(views, images)))

        def mean_probability(losses: Tensor) -> Tensor:
            return losses.neg().exp().mean(1)

        start = batch.bases
        if self.random_start:
            drawn = [uniform_in_ball(b.cpu(), self.budget, g) for b, g in zip(batch.bases, batch.generators(), strict=True)]
            start = torch.stack(drawn).to(batch.bases)
        poisons = pgd(
            losses_of,
            start,
            batch.bases,
            self.budget,
            steps=self.steps,
            step_size=self.step_size,
            progress=lambda losses: progress(mean_probability(losses)),
            moved=moved,
        )
        if batch.trigger is not None and not self.visible_trigger:
            flat = poisons.flatten(0, 1)
            stamped = batch.trigger.stamp(flat, torch.zeros(len(flat), dtype=torch.int64)).view_as(poisons)
            poisons = self.budget.project(stamped, batch.bases)
        with torch.no_grad():
            return poisons, mean_probability(losses_of(poisons))


def _parse_step_size(step_size: float | str) -> float:
    value = parse_length(step_size)
    if not (math.isfinite(value) and value > 0):
        raise InputError(
            f"step_size is {step_size!r}: it is a number or a fraction such as 1.5/255, above 0 (--attack.step_size)"
        )
    return value


def true_label_loss(images: Tensor, labels: Tensor, surrogates: Sequence[Surrogate]) -> Tensor:
    """Cross-entropy of the surrogates' mean logits with the images' own labels.

    Args:
        images: ``(S, k, C, H, W)`` float in [0, 1].
        labels: ``(S, k)`` int64.

    Returns:
        ``(S, k)``.
    """
    flat = images.flatten(0, 1)
    logits = torch.stack([surrogate(flat) for surrogate in surrogates]).mean(0)
    return functional.cross_entropy(logits, labels.flatten(), reduction="none").view(labels.shape)
