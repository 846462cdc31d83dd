"""The floor of every attack: noise as large as the budget, which nobody optimised."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from poison_and_defend.attacks import Attack
from poison_and_defend.attacks.threat.surrogate import CraftBatch, Surrogate


class RandomNoise(Attack):
    """Noise at the border of another attack's budget, with its goal and trigger: each pixel moved by eps, or the length of eps.

    Args:
        of: The attack whose place it takes.
    """

    name = "random_noise"
    scenarios = frozenset({"transfer", "fine_tune", "from_scratch"})

    def __init__(self, of: Attack) -> None:
        super().__init__(of.budget.eps, of.budget.norm, 1)
        # What victims and targets depend on is that of the other attack; surrogates that it does without are trained anyway.
        for name in ("goal", "several_targets", "robust_surrogates", "universal", "test_scale", "trigger", "visible_trigger"):
            if getattr(self, name) != getattr(of, name):
                setattr(self, name, copy.copy(getattr(of, name)))

    def perturb(
        self, batch: CraftBatch, surrogates: Sequence[Surrogate], progress: Callable[[Tensor], None]
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`Attack.perturb`; there is no objective, which is told as 0."""
        del surrogates
        shape = batch.bases.shape[1:]
        if self.universal:
            shape = torch.Size([1, *shape[1:]])
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in batch.generators()])
        if self.budget.norm == "linf":
            noise = noise.sign() * self.budget.eps
        else:
            noise = noise * (self.budget.eps / noise.flatten(2).norm(dim=-1)[..., None, None, None])
        objective = torch.zeros(len(batch.seeds))
        progress(objective)
        noise = noise.to(batch.bases)
        return (noise if self.universal else self.budget.project(batch.bases + noise, batch.bases)), objective
