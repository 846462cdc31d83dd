"""Gradient matching: perturb images so that training on them moves a model where the attacker wants it.

What Geiping, Fowl, Huang, Czaja, Taylor, Moeller, Goldstein, "Witches' Brew" (ICLR 2021) and Souri, Fowl, Chellappa,
Goldblum, Goldstein, "Sleeper Agent" (NeurIPS 2022) share; they differ in the goal and in what happens between the steps.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from poison_and_defend.attacks.base import Attack, check_positive
from poison_and_defend.attacks.crafting.augmentation import Augmentation
from poison_and_defend.attacks.crafting.parameter_gradients import (
    Parameters,
    loop_gradients,
    loop_values,
    stackable,
    stacked_gradients,
)
from poison_and_defend.attacks.crafting.precision import full_precision
from poison_and_defend.attacks.crafting.sharpness import sharp_goal_gradient
from poison_and_defend.attacks.crafting.views import Sight, View
from poison_and_defend.attacks.threat.budget import Norm
from poison_and_defend.attacks.threat.surrogate import CraftBatch, Surrogate
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError

# Steps 93, 156 and 218 of 250 in the authors' code.
_DECAY_AT = (3 / 8, 5 / 8, 7 / 8)


class GradientMatching(Attack):
    """Signed Adam on ``B = 1 - <g_t, g_p> / (||g_t|| ||g_p||)`` (Witches' Brew, equation 3; Sleeper Agent, equation 3).

    Inner product and norms are over the concatenation of all parameters; ``g_t`` is the gradient of the mean loss of the
    goal images under the adversarial label, ``g_p`` that of the mean loss of the augmented poisons under their own. Adam
    is fed the sign of dB/d(poison); its rate falls tenfold at 3/8, 5/8 and 7/8 of the steps. Poisons beyond
    ``poison_batch`` are matched batch by batch, each batch by itself, and one step follows them all, as in the authors' code.

    Setups and restarts take their steps together, each with randomness of its own. Surrogates are in evaluation mode, as
    in the authors' code. Where those step by 0.1 in units of normalised pixels (a standard deviation of about 0.2), we
    step in [0, 1] pixels: 0.02. Of K surrogates their objectives are averaged and the step is divided by K, as there.

    Args:
        eps: Budget radius.
        norm: ``linf`` or ``l2``.
        steps: Number of optimiser steps.
        learning_rate: Adam's step in [0, 1] pixel units, of one surrogate; of K it is divided by K.
        restarts: Independent starts, of which the lowest final B is kept, setup by setup.
        max_shift: Largest random translation as a share of the side; 0 turns it off.
        flip: Whether views are mirrored at random.
        poison_batch: How many images are differentiated together, which bounds memory.
    """

    augmentation: Augmentation
    uses_logits = True
    differentiates_twice = True
    looks_through = True
    sharpness: float = 0.0
    """Radius of the surrogates' move uphill on the goal's loss, at whose end the gradient to match is taken; 0 for none."""

    def __init__(
        self,
        eps: float | str,
        norm: Norm,
        steps: int,
        learning_rate: float,
        restarts: int,
        max_shift: float,
        flip: bool,
        poison_batch: int,
    ) -> None:
        super().__init__(eps, norm, steps)
        check_positive("learning_rate", learning_rate)
        at_least("restarts", restarts, 1, "--attack.restarts")
        at_least("poison_batch", poison_batch, 1, "--attack.poison_batch")
        self.learning_rate = learning_rate
        self.restarts = restarts
        self.augmentation = Augmentation(max_shift, flip)
        self.poison_batch = poison_batch

    @abstractmethod
    def goal_images(self, batch: CraftBatch) -> Tensor:
        """``(S, n, C, H, W)`` float: what a victim should come to read as the adversarial label."""

    def renew(self, step: int, batch: CraftBatch, poisons: Tensor) -> list[list[Surrogate]] | None:
        """Other surrogates for the steps from ``step`` on, one list a setup; None to go on with the same."""
        del step, batch, poisons
        return None

    def perturb(
        self, batch: CraftBatch, surrogates: Sequence[Surrogate], progress: Callable[[Tensor], None]
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`Attack.perturb`."""
        # Lanes: every setup of the first restart, then of the second; restart 0 is the same however many there are.
        sight = Sight(batch, self.augmentation, self.restarts)
        bases = batch.bases.repeat(self.restarts, 1, 1, 1, 1)
        models: list[list[Surrogate]] = [list(surrogates) for _ in batch.seeds]
        goals = self._goals(batch, models)
        poisons = self._start(bases, sight.generators).requires_grad_()
        optimizer = torch.optim.Adam([poisons], lr=self.learning_rate / len(surrogates))
        looped = self._looped(batch, models, goals)
        milestones = [max(1, int(share * self.steps)) for share in _DECAY_AT]
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, 0.1)
        for step in range(self.steps):
            renewed = self.renew(step, batch, poisons.detach())
            if renewed is not None:
                models, goals = renewed, self._goals(batch, renewed)
            gradient, objective = self._gradient(poisons.detach(), batch, models, goals, sight, looped)
            poisons.grad = gradient.sign()
            optimizer.step()
            scheduler.step()
            with torch.no_grad():
                poisons.copy_(self.budget.project(poisons, bases))
            progress(objective.view(self.restarts, -1).amin(0))
            sight.watch(step + 1, self.steps, partial(self._value, poisons.detach(), batch, models, goals))
        _, final = self._gradient(poisons.detach(), batch, models, goals, sight, looped)
        lowest, best = final.view(self.restarts, -1).min(0)
        setups = torch.arange(len(batch.seeds), device=best.device)
        return poisons.detach().unflatten(0, (self.restarts, -1))[best, setups], lowest

    def _start(self, bases: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Gaussian noise of standard deviation eps, projected to the budget."""
        noise = torch.stack([torch.randn(bases.shape[1:], generator=g) for g in generators]).to(bases.device)
        return self.budget.project(bases + noise * self.budget.eps, bases)

    def _goals(self, batch: CraftBatch, models: Sequence[Sequence[Surrogate]]) -> list[list[Parameters]]:
        """Per setup and surrogate the gradient to match."""
        images, labels = self.goal_images(batch), batch.base_labels[:, 0]
        goals: list[list[Parameters]] = []
        for setup, own in enumerate(models):
            options = (images[setup], labels[setup], self.poison_batch, self.sharpness)
            goals.append([sharp_goal_gradient(model, *options) for model in own])
            for number, goal in enumerate(goals[-1]):
                if not all(bool(value.isfinite().all()) for value in goal.values()):
                    raise InputError(
                        f"{self.name}: surrogate {number} has no finite gradient at the goal of setup {setup} of its batch "
                        f"(seed {batch.seeds[setup]}): train it at a smaller rate (--feature_recipe.learning_rate)"
                    )
        return goals

    def _looped(self, batch: CraftBatch, models: Sequence[Sequence[Surrogate]], goals: Sequence[Sequence[Parameters]]) -> bool:
        """Whether lanes go one after another: on a CPU, through a defence, in half precision, or where models do not stack."""
        alone = batch.bases.device.type == "cpu" or batch.sanitizing is not None
        if alone or any(full_precision(model) is not model for own in models for model in own):
            return True
        few = batch.bases[:1, :2]
        return not stackable(
            lambda: stacked_gradients(models[:1], goals[:1], few, batch.base_labels[:1, :2], [View()], few.shape[1])
        )

    def _value(
        self,
        poisons: Tensor,
        batch: CraftBatch,
        models: Sequence[Sequence[Surrogate]],
        goals: Sequence[list[Parameters]],
        views: Sequence[View],
    ) -> Tensor:
        """B of every setup's best restart over these views, ``(S,)``."""
        lanes = list(models) * self.restarts, list(goals) * self.restarts
        found = loop_values(*lanes, poisons, batch.base_labels.repeat(self.restarts, 1), views, self.poison_batch)
        return found.view(self.restarts, -1).amin(0)

    def _gradient(
        self,
        poisons: Tensor,
        batch: CraftBatch,
        models: Sequence[Sequence[Surrogate]],
        goals: Sequence[Sequence[Parameters]],
        sight: Sight,
        looped: bool,
    ) -> tuple[Tensor, Tensor]:
        """dB/d(poison) of every lane, averaged over surrogates, and B ``(lanes,)``, over the views of a step."""
        gradient, objective = (loop_gradients if looped else stacked_gradients)(
            list(models) * self.restarts,
            list(goals) * self.restarts,
            poisons,
            batch.base_labels.repeat(self.restarts, 1),
            sight.views(),
            self.poison_batch,
        )
        broken = ~(objective.isfinite() & gradient.flatten(1).isfinite().all(1))
        if broken.any():
            setup = int(broken.nonzero()[0]) % len(batch.seeds)
            raise InputError(
                f"{self.name}: the poisons of setup {setup} of its batch (seed {batch.seeds[setup]}) have no finite gradient: "
                "train the surrogates at a smaller rate (--feature_recipe.learning_rate)"
            )
        return gradient, objective
