"""Poison Frogs: let every poison collide with the target in feature space while it looks like its base.

Shafahi, Huang, Najibi, Suciu, Studer, Dumitras, Goldstein, "Poison Frogs! Targeted Clean-Label Poisoning Attacks on
Neural Networks" (NeurIPS 2018).
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from poison_and_defend.attacks.base import Attack, check_positive
from poison_and_defend.attacks.crafting.augmentation import Augmentation
from poison_and_defend.attacks.crafting.views import Sight, View, mean_gradient
from poison_and_defend.attacks.threat.budget import Norm
from poison_and_defend.attacks.threat.surrogate import CraftBatch, Surrogate
from poison_and_defend.core.bounds import at_least, share
from poison_and_defend.core.errors import InputError


class PoisonFrogs(Attack):
    """Equation (1) of the paper, ``||f(x) - f(t)||^2 + beta ||x - b||^2``, for every poison on its own.

    Algorithm 1, forward-backward splitting: a gradient step ``x^ = x - lambda grad ||f(x) - f(t)||^2``, then
    ``(x^ + lambda beta b) / (1 + lambda beta)``. The paper bounds a poison by beta alone, which is the default here (an linf
    radius of 1 is every image); with a smaller radius every step ends in the budget.

    **Units.** The paper sets ``beta = beta0 (F / (C H W))^2`` with F features, for pixels from 0 to 255. The same function
    of images in [0, 1] has 255^2 times that beta, and the same path 1/255^2 of the step: the authors' 500 * 255 is 1.96.
    ``beta`` and ``learning_rate`` are beta0 and the step in [0, 1] units.

    Deviations: the authors' code differentiates the norm, we its square as in equation (1); several surrogates are averaged;
    a step after which the objective is above the mean of its last ``memory`` values (nan included) is not taken but tried
    again with a smaller lambda, so that a lambda that is too large at first costs a few passes and nothing else. Through
    random views the objective of a poison differs from step to step, and a step is compared with the poison that it leaves,
    under the same view, which takes twice as long; ``memory`` then says nothing.

    Args:
        eps: Budget radius; 1 bounds nothing.
        norm: ``linf`` or ``l2``.
        steps: Most steps; the authors run up to 1500.
        learning_rate: The first lambda.
        beta: beta0, what a poison pays for leaving its base; 0.25 in the paper, 0 leaves that to the budget.
        watermark: Opacity gamma at which the target is blended into the base (section 4); around the blend, within the
            budget, the poison starts and is held. About 0.3 in the paper, for victims that train all layers.
        decay: What lambda is multiplied by.
        memory: Over how many values the objective is compared, 40 in the authors' code.
        tolerance: A poison is finished once a step would change it by no more than this share of its norm.
        max_shift: Largest random translation of what is looked at in every step, as a share of the side, against victims
            that augment, which the paper's do not; 0 turns it off.
        flip: Whether what is looked at in every step is mirrored at random, against victims that augment.
    """

    scenarios = frozenset({"transfer", "fine_tune"})
    name = "poison_frogs"
    looks_through = True

    def __init__(
        self,
        eps: float | str = 1.0,
        norm: Norm = "linf",
        steps: int = 1500,
        learning_rate: float = 2.0,
        beta: float = 0.25,
        watermark: float = 0.0,
        decay: float = 0.5,
        memory: int = 40,
        tolerance: float = 1e-10,
        max_shift: float = 0.0,
        flip: bool = False,
    ) -> None:
        super().__init__(eps, norm, steps)
        check_positive("learning_rate", learning_rate)
        at_least("beta", beta, 0, "--attack.beta")
        share("watermark", watermark, "--attack.watermark", of="an opacity")
        if not 0 < decay < 1:
            raise InputError(f"decay is {decay:g}: it must be between 0 and 1 (--attack.decay)")
        at_least("memory", memory, 1, "--attack.memory")
        share("tolerance", tolerance, "--attack.tolerance", of="a relative change")
        self.learning_rate = learning_rate
        self.beta = beta
        self.watermark = watermark
        self.decay = decay
        self.memory = memory
        self.tolerance = tolerance
        self.augmentation = Augmentation(max_shift, flip) or None

    @property
    def variant(self) -> str:
        """See :attr:`Attack.variant`."""
        return "augmented" if self.augmentation else ""

    def perturb(
        self, batch: CraftBatch, surrogates: Sequence[Surrogate], progress: Callable[[Tensor], None]
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`Attack.perturb`; the objective of a setup is the mean of its poisons'."""
        with torch.no_grad():
            goals = [surrogate.features(batch.targets[:, 0])[:, None] for surrogate in surrogates]
            blend = self.watermark * batch.targets[:, :1] + (1 - self.watermark) * batch.bases
            anchors = self.budget.project(blend, batch.bases)
        beta = self._beta(goals, anchors)

        sight = Sight(batch, self.augmentation)
        changing = bool(sight.known) or (sight.sanitizing is not None and sight.sanitizing.random)

        def evaluate(images: Tensor, views: Sequence[View]) -> tuple[Tensor, Tensor]:
            distance, gradient = mean_gradient(images, views, lambda seen: collision(seen, goals, surrogates))
            return distance + beta * (images - anchors).flatten(2).square().sum(-1), gradient

        def value_of(images: Tensor, views: Sequence[View]) -> Tensor:
            return evaluate(images, views)[0].mean(1)

        poisons = anchors
        objective, gradient = evaluate(poisons, sight.settled())
        rate = torch.full_like(objective, self.learning_rate)
        recent = deque([objective], maxlen=self.memory)
        active = torch.ones_like(objective, dtype=torch.bool)
        for number in range(self.steps):
            views = sight.views()
            if changing:
                objective, gradient = evaluate(poisons, views)
                recent = deque([objective], maxlen=1)
            step = _over_pixels(rate)
            forward = poisons - step * gradient
            trial = self.budget.project((forward + step * beta * anchors) / (1 + step * beta), batch.bases)
            value, slope = evaluate(trial, views)
            change = (trial - poisons).flatten(2).norm(dim=-1)
            taken = active & (value <= torch.stack(list(recent)).mean(0))
            rate = torch.where(active & ~taken, rate * self.decay, rate)
            active = active & (change > self.tolerance * poisons.flatten(2).norm(dim=-1))
            objective = torch.where(taken, value, objective)
            poisons = torch.where(_over_pixels(taken), trial, poisons)
            gradient = torch.where(_over_pixels(taken), slope, gradient)
            recent.append(objective)
            progress(objective.mean(1))
            ended = not active.any()
            sight.watch(self.steps if ended else number + 1, self.steps, partial(value_of, poisons))
            if ended:
                break
        return poisons, (evaluate(poisons, sight.settled())[0] if changing else objective).mean(1)

    def _beta(self, goals: Sequence[Tensor], images: Tensor) -> float:
        """The weight of ``||x - b||^2`` for images in [0, 1], averaged over surrogates."""
        pixels = images[0, 0].numel()
        return self.beta * 255**2 * sum((goal.shape[-1] / pixels) ** 2 for goal in goals) / len(goals)


def collision(images: Tensor, goals: Sequence[Tensor], surrogates: Sequence[Surrogate]) -> Tensor:
    """Squared distance of every image's features to the target's, averaged over surrogates, ``(S, k)``.

    Args:
        images: ``(S, k, C, H, W)`` float in [0, 1].
        goals: Per surrogate, target features ``(S, 1, F)``.
    """
    flat = images.flatten(0, 1)
    distances = [
        (surrogate.features(flat).unflatten(0, images.shape[:2]) - goal).square().sum(-1)
        for surrogate, goal in zip(surrogates, goals, strict=True)
    ]
    return torch.stack(distances).mean(0)


def _over_pixels(values: Tensor) -> Tensor:
    return values[..., None, None, None]
