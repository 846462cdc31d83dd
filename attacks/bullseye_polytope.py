"""Bullseye Polytope: put the target at the centre of the poisons in feature space.

Aghakhani, Meng, Wang, Kruegel, Vigna, "Bullseye Polytope: A Scalable Clean-Label Poisoning Attack with Improved
Transferability" (EuroS&P 2021).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from attacks.base import Attack
from attacks.budget import Norm
from attacks.surrogate import CraftBatch, Surrogate
from errors import InputError


class BullseyePolytope(Attack):
    """Equation (3) of the paper with all coefficients fixed to 1/k, for transfer learning with frozen features.

    Minimises the mean over surrogates i of ``||phi_i(t) - 1/k sum_j phi_i(x_j)|| / ||phi_i(t)||`` (norm, not its
    square) with Adam; after every step the poisons are projected to the budget and to [0, 1].

    Args:
        eps: Budget radius; the paper uses 0.1 (linf) and 5 poisons.
        norm: ``linf`` as in the paper, or ``l2``.
        steps: Adam steps; the authors run 800 to 4000.
        learning_rate: Adam's step in [0, 1] pixel units; 0.04 in the authors' code.
    """

    scenarios = frozenset({"transfer"})
    name = "bullseye_polytope"

    def __init__(self, eps: float | str = 0.1, norm: Norm = "linf", steps: int = 800, learning_rate: float = 0.04) -> None:
        super().__init__(eps, norm, steps)
        if not learning_rate > 0:
            raise InputError(f"learning_rate is {learning_rate:g}: it must be above 0 (--attack.learning_rate)")
        self.learning_rate = learning_rate

    def perturb(
        self, batch: CraftBatch, surrogates: Sequence[Surrogate], progress: Callable[[Tensor], None]
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`Attack.perturb`."""
        with torch.no_grad():
            centres = [surrogate.features(batch.targets[:, 0]) for surrogate in surrogates]
        poisons = batch.bases.clone().requires_grad_()
        # Adam is elementwise, so that one optimiser over all setups equals one per setup.
        optimizer = torch.optim.Adam([poisons], lr=self.learning_rate)
        for _ in range(self.steps):
            objective = bullseye_objective(poisons, centres, surrogates)
            # The gradient of the images alone: the parameters' would double the work and is not needed.
            (poisons.grad,) = torch.autograd.grad(objective.sum(), [poisons])
            optimizer.step()
            with torch.no_grad():
                poisons.copy_(self.budget.project(poisons, batch.bases))
            progress(objective.detach())
        with torch.no_grad():
            return poisons.detach(), bullseye_objective(poisons, centres, surrogates)


def bullseye_objective(poisons: Tensor, centres: Sequence[Tensor], surrogates: Sequence[Surrogate]) -> Tensor:
    """Distance from the poisons' mean feature to the target's, relative to the target's norm.

    Args:
        poisons: ``(S, k, C, H, W)`` float in [0, 1].
        centres: Per surrogate, target features ``(S, F)``.

    Returns:
        ``(S,)``, averaged over surrogates; 0 when the target is exactly the centre.
    """
    losses = []
    for surrogate, centre in zip(surrogates, centres, strict=True):
        features = surrogate.features(poisons.flatten(0, 1)).unflatten(0, poisons.shape[:2])
        # A target that no unit responds to has no direction to go to, but must not turn the poisons into NaN.
        losses.append((centre - features.mean(1)).norm(dim=-1) / centre.norm(dim=-1).clamp_min(1e-12))
    return torch.stack(losses).mean(0)
