"""Convex Polytope: enclose the target by the poisons in feature space.

Zhu, Huang, Li, Taylor, Studer, Goldstein, "Transferable Clean-Label Poisoning Attacks on Deep Neural Nets" (ICML 2019).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from poison_and_defend.attacks.base import Attack, check_positive
from poison_and_defend.attacks.crafting.augmentation import Augmentation
from poison_and_defend.attacks.crafting.dropout import dropout_kept_on, setup_features
from poison_and_defend.attacks.crafting.simplex import nearest_combination
from poison_and_defend.attacks.crafting.views import Sight, View, mean_gradient, mean_value
from poison_and_defend.attacks.threat.budget import Norm
from poison_and_defend.attacks.threat.surrogate import CraftBatch, Surrogate
from poison_and_defend.core.bounds import at_least, share


class ConvexPolytope(Attack):
    """Equation (2) of the paper, minimised in turn over the coefficients and the poisons (its algorithm 1).

    The objective is ``1/2 ||phi_i(t) - sum_j c_j^i phi_i(x_j)||^2 / ||phi_i(t)||^2`` with coefficients in the simplex, its
    own for every surrogate i. One iteration solves for the coefficients, starting from the last ones, and then takes one Adam
    step on the poisons, which are projected to the budget and to [0, 1]. ``end_to_end`` sums over the outputs of all blocks,
    each with coefficients of its own (section 3.4).

    Deviations: the mean over surrogates, not their sum, a constant that Adam does not see; the coefficients are found among
    inner products of features instead of features, to the authors' tolerance, and both halves of an iteration use the same
    features, so that one costs one pass forward and one back. Surrogates that have dropout keep it on while crafting, as
    in the paper; the objective that is returned in the end is measured without, and on the poisons as they are.

    Args:
        eps: Budget radius; the paper uses 0.1 (linf) and 5 poisons.
        norm: ``linf`` as in the paper, or ``l2``.
        steps: Iterations, 4000 in the paper.
        learning_rate: Adam's step in [0, 1] pixel units. The authors hold poisons in normalised pixels, where 0.04 is 0.04
            standard deviations: 0.008 here for a standard deviation of 0.2.
        end_to_end: Whether to look at the outputs of all blocks, against victims that train all layers.
        tolerance: Relative change of the coefficients at which they count as found, 1e-6 in the authors' code.
        max_iterations: Most iterations that one search for coefficients takes.
        max_shift: Largest random translation of what is looked at in every step, as a share of the side, against victims
            that augment, which the paper's do not; 0 turns it off.
        flip: Whether what is looked at in every step is mirrored at random, against victims that augment.
    """

    scenarios = frozenset({"transfer", "fine_tune"})
    name = "convex_polytope"
    looks_through = True

    def __init__(
        self,
        eps: float | str = 0.1,
        norm: Norm = "linf",
        steps: int = 4000,
        learning_rate: float = 0.008,
        end_to_end: bool = False,
        tolerance: float = 1e-6,
        max_iterations: int = 10_000,
        max_shift: float = 0.0,
        flip: bool = False,
    ) -> None:
        super().__init__(eps, norm, steps)
        check_positive("learning_rate", learning_rate)
        share("tolerance", tolerance, "--attack.tolerance", of="a relative change")
        at_least("max_iterations", max_iterations, 1, "--attack.max_iterations")
        self.learning_rate = learning_rate
        self.end_to_end = end_to_end
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.augmentation = Augmentation(max_shift, flip) or None

    @property
    def variant(self) -> str:
        """See :attr:`Attack.variant`: which layers it looks at, and whether through the victims' augmentation."""
        return ", ".join([*(["all blocks"] if self.end_to_end else []), *(["augmented"] if self.augmentation else [])])

    def perturb(
        self, batch: CraftBatch, surrogates: Sequence[Surrogate], progress: Callable[[Tensor], None]
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`Attack.perturb`."""
        poisons = batch.bases.clone().requires_grad_()
        optimizer = torch.optim.Adam([poisons], lr=self.learning_rate)
        sight = Sight(batch, self.augmentation)
        coefficients = batch.bases.new_full(batch.bases.shape[:2], 1 / batch.bases.shape[1])
        with dropout_kept_on(surrogates, batch):
            targets = self._targets(batch, surrogates)

            def objective_of(seen: Tensor) -> Tensor:
                nonlocal coefficients
                # Of several views each begins where the one before it ended.
                objective, coefficients = self._objective(seen, targets, surrogates, coefficients)
                return objective

            def value(views: Sequence[View]) -> Tensor:
                nonlocal coefficients
                kept = coefficients
                found = mean_value(poisons, views, objective_of)
                coefficients = kept
                return found

            for step in range(self.steps):
                objective, poisons.grad = mean_gradient(poisons, sight.views(), objective_of)
                optimizer.step()
                with torch.no_grad():
                    poisons.copy_(self.budget.project(poisons, batch.bases))
                progress(objective)
                sight.watch(step + 1, self.steps, value)
        with torch.no_grad():
            # Measured without dropout.
            targets = self._targets(batch, surrogates)
            return poisons.detach(), mean_value(poisons, sight.settled(), objective_of)

    @torch.no_grad()
    def _targets(self, batch: CraftBatch, surrogates: Sequence[Surrogate]) -> list[list[Tensor]]:
        return [setup_features(s, batch.targets[:, :1], end_to_end=self.end_to_end) for s in surrogates]

    def _objective(
        self, poisons: Tensor, targets: Sequence[Sequence[Tensor]], surrogates: Sequence[Surrogate], coefficients: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The objective ``(S,)`` at the best coefficients, and these, ``(surrogates * blocks, S, k)``."""
        offsets = [
            polytope_offsets(features, target)
            for surrogate, wanted in zip(surrogates, targets, strict=True)
            for features, target in zip(
                setup_features(surrogate, poisons, end_to_end=self.end_to_end), wanted, strict=True
            )
        ]  # fmt: skip
        with torch.no_grad():
            gram = torch.stack([offset @ offset.mT for offset in offsets])
            coefficients, _ = nearest_combination(
                gram, coefficients.expand(gram.shape[:-1]), tolerance=self.tolerance, max_iterations=self.max_iterations
            )
        residuals = [(c[..., None] * offset).sum(1) for c, offset in zip(coefficients, offsets, strict=True)]
        losses = torch.stack([residual.square().sum(-1) for residual in residuals])
        return losses.sum(0) / (2 * len(surrogates)), coefficients


def polytope_offsets(features: Tensor, target: Tensor) -> Tensor:
    """The poisons' features as seen from the target's, relative to the target's norm: ``(S, k, F)``.

    As coefficients sum to 1, the same combination of these is the residual of equation (2).

    Args:
        features: ``(S, k, F)``.
        target: ``(S, 1, F)``.
    """
    # A target that no unit responds to has no scale, but must not turn the poisons into NaN.
    smallest = math.sqrt(torch.finfo(target.dtype).tiny)
    length: Tensor = target.norm(dim=-1, keepdim=True).clamp_min(smallest)
    return (features - target) / length
