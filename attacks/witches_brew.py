"""Witches' Brew: make the poisons' training gradient point where the attacker's would.

Geiping, Fowl, Huang, Czaja, Taylor, Moeller, Goldstein, "Witches' Brew: Industrial Scale Data Poisoning via Gradient
Matching" (ICLR 2021).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from attacks.augmentation import augment, draw_augmentation
from attacks.base import Attack
from attacks.budget import Norm
from attacks.surrogate import CraftBatch, Surrogate
from errors import InputError

Parameters = dict[str, Tensor]

# Steps 93, 156 and 218 of 250 in the authors' code.
_DECAY_AT = (3 / 8, 5 / 8, 7 / 8)


class WitchesBrew(Attack):
    """Algorithm 1 of the paper: gradient matching with signed Adam, restarts and differentiable augmentation.

    Minimises ``B = 1 - <g_t, g_p> / (||g_t|| ||g_p||)`` (equation 3) over the concatenation of all parameters, where
    ``g_t`` is the gradient of the loss of the target under the adversarial label and ``g_p`` that of the mean loss of the
    augmented poisons under their own. Adam is fed the sign of dB/d(poison); its rate falls tenfold at 3/8, 5/8 and
    7/8 of the steps. Of all restarts the one with the lowest final B is kept, setup by setup.

    Setups and restarts are vectorised together with ``torch.func``; the surrogates are in evaluation mode, as in the
    authors' code. Where those step by 0.1 in units of normalised pixels (a standard deviation of about 0.2), we step in
    [0, 1] pixels: 0.02.

    Args:
        eps: Budget radius, 16/255 (linf) in the paper.
        norm: ``linf`` as in the paper, or ``l2``.
        steps: Steps per restart, 250 in the paper.
        learning_rate: Adam's step in [0, 1] pixel units.
        restarts: Independent starts, 8 in the paper.
        max_shift: Largest random translation as a share of the side, 4/32 on CIFAR-10; 0 turns augmentation off.
        flip: Whether views are mirrored at random.
    """

    scenarios = frozenset({"from_scratch"})
    name = "witches_brew"

    def __init__(
        self,
        eps: float | str = "16/255",
        norm: Norm = "linf",
        steps: int = 250,
        learning_rate: float = 0.02,
        restarts: int = 8,
        max_shift: float = 0.125,
        flip: bool = True,
    ) -> None:
        super().__init__(eps, norm, steps)
        if not learning_rate > 0:
            raise InputError(f"learning_rate is {learning_rate:g}: it must be above 0 (--attack.learning_rate)")
        if restarts < 1:
            raise InputError(f"restarts is {restarts}: at least 1 is needed (--attack.restarts)")
        if not 0 <= max_shift < 1:
            raise InputError(f"max_shift is {max_shift:g}: it is a share of the image's side in [0, 1) (--attack.max_shift)")
        self.learning_rate = learning_rate
        self.restarts = restarts
        self.max_shift = max_shift
        self.flip = flip

    @property
    def total_steps(self) -> int:
        """See :attr:`Attack.total_steps`."""
        return self.steps * self.restarts

    def perturb(
        self, batch: CraftBatch, surrogates: Sequence[Surrogate], progress: Callable[[Tensor], None]
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`Attack.perturb`."""
        generators = batch.generators()
        adversarial = batch.base_labels[:, 0]
        wanted = [target_gradients(s, batch.targets[:, 0], adversarial) for s in surrogates]
        best, lowest = batch.bases.clone(), torch.full((len(batch.bases),), float("inf"), device=batch.bases.device)
        for _ in range(self.restarts):
            poisons = self._start(batch, generators).requires_grad_()
            optimizer = torch.optim.Adam([poisons], lr=self.learning_rate)
            milestones = [max(1, int(share * self.steps)) for share in _DECAY_AT]
            scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, 0.1)
            for _ in range(self.steps):
                gradient, objective = self._gradient(poisons.detach(), batch, surrogates, wanted, generators)
                poisons.grad = gradient.sign()
                optimizer.step()
                scheduler.step()
                with torch.no_grad():
                    poisons.copy_(self.budget.project(poisons, batch.bases))
                progress(torch.minimum(objective, lowest))
            _, final = self._gradient(poisons.detach(), batch, surrogates, wanted, generators)
            better = final < lowest
            best[better], lowest[better] = poisons.detach()[better], final[better]
        return best, lowest

    def _start(self, batch: CraftBatch, generators: list[torch.Generator]) -> Tensor:
        """Gaussian noise of standard deviation eps, projected to the budget."""
        shape = batch.bases.shape[1:]
        noise = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(batch.bases.device)
        return self.budget.project(batch.bases + noise * self.budget.eps, batch.bases)

    def _gradient(
        self,
        poisons: Tensor,
        batch: CraftBatch,
        surrogates: Sequence[Surrogate],
        wanted: Sequence[Parameters],
        generators: list[torch.Generator],
    ) -> tuple[Tensor, Tensor]:
        """dB/d(poison) of every setup, averaged over surrogates, and B ``(S,)``; one random view per poison."""
        count = poisons.shape[1]
        views = torch.stack([draw_augmentation((count,), g, flip=self.flip) for g in generators]).to(poisons.device)

        def view(images: Tensor, own: Tensor) -> Tensor:
            return augment(images, own, self.max_shift) if self.max_shift > 0 or self.flip else images

        total = torch.zeros_like(poisons)
        objective = poisons.new_zeros(len(poisons))
        for surrogate, target in zip(surrogates, wanted, strict=True):
            parameters = detached_parameters(surrogate)

            def matching(
                images: Tensor,
                labels: Tensor,
                own: Tensor,
                goal: Parameters,
                surrogate: Surrogate = surrogate,
                parameters: Parameters = parameters,
            ) -> tuple[Tensor, Tensor]:
                value = matching_loss(surrogate, parameters, view(images, own), labels, goal)
                return value, value

            gradient, value = vmap(grad(matching, has_aux=True))(poisons, batch.base_labels, views, target)
            total += gradient / len(surrogates)
            objective += value / len(surrogates)
        return total, objective


def detached_parameters(model: Surrogate) -> Parameters:
    """The model's parameters as plain tensors, so that differentiating leaves the model alone."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def _loss(parameters: Parameters, model: Surrogate, images: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(functional_call(model, parameters, (images,)), labels)


def target_gradients(model: Surrogate, targets: Tensor, labels: Tensor) -> Parameters:
    """Gradient of each target's loss under the adversarial label with respect to all parameters.

    Args:
        targets: ``(S, C, H, W)`` float in [0, 1].
        labels: ``(S,)`` int64.

    Returns:
        Per parameter a tensor with a leading dimension S.
    """
    parameters = detached_parameters(model)

    def one(image: Tensor, label: Tensor) -> Parameters:
        gradients: Any = grad(_loss)(parameters, model, image[None], label[None])
        return dict(gradients)

    result: Parameters = vmap(one)(targets, labels)
    return result


def matching_loss(model: Surrogate, parameters: Parameters, images: Tensor, labels: Tensor, goal: Parameters) -> Tensor:
    """B of one setup: one minus the cosine between the poisons' gradient and ``goal`` over all parameters.

    Args:
        images: ``(k, C, H, W)`` float.
        labels: ``(k,)`` int64.
        goal: The target's gradient, per parameter.
    """
    gradients: Any = grad(_loss)(parameters, model, images, labels)
    names = list(goal)
    dot = torch.stack([(gradients[n] * goal[n]).sum() for n in names]).sum()
    own = torch.stack([gradients[n].square().sum() for n in names]).sum()
    other = torch.stack([goal[n].square().sum() for n in names]).sum()
    # A poison set that the surrogate already fits perfectly has no gradient; its direction is then undefined.
    return 1 - dot / (own * other).clamp_min(1e-30).sqrt()
