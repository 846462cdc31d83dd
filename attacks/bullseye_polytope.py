"""Bullseye Polytope: put the target at the centre of the poisons in feature space.

Aghakhani, Meng, Wang, Kruegel, Vigna, "Bullseye Polytope: A Scalable Clean-Label Poisoning Attack with Improved
Transferability" (EuroS&P 2021).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from poison_and_defend.attacks.base import Attack, check_positive
from poison_and_defend.attacks.crafting.augmentation import Augmentation
from poison_and_defend.attacks.crafting.dropout import dropout_kept_on, has_dropout, setup_features
from poison_and_defend.attacks.crafting.views import Sight, mean_gradient, mean_value
from poison_and_defend.attacks.threat.budget import Norm
from poison_and_defend.attacks.threat.surrogate import CraftBatch, Surrogate
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError

Centres = Sequence[Sequence[Tensor]]
"""Per surrogate and block, what the poisons' mean is to meet: ``(S, F_b)``."""


class BullseyePolytope(Attack):
    """Equation (3) of the paper with all coefficients fixed to 1/k.

    Minimises the mean over surrogates i of ``||phi_i(t) - 1/k sum_j phi_i(x_j)|| / ||phi_i(t)||`` (norm, not its
    square) with Adam; after every step the poisons are projected to the budget and to [0, 1]. Of several targets the mean of
    their features takes the place of ``phi_i(t)``, as for the paper's several views of one object.

    Surrogates that have dropout keep it on while crafting, the target's features included, which are drawn once; the
    objective that is returned in the end is measured without, and on the poisons as they are, not on random views.

    Args:
        eps: Budget radius; the paper uses 0.1 (linf) and 5 poisons.
        norm: ``linf`` as in the paper, or ``l2``.
        steps: Adam steps; the authors run 800 to 4000.
        learning_rate: Adam's step in [0, 1] pixel units. The authors hold poisons in normalised pixels, where 0.04 is 0.04
            standard deviations: 0.008 here for a standard deviation of 0.2.
        end_to_end: Whether to average the objective over the outputs of all blocks, against victims that train all layers.
        draws: Dropout masks over which features are averaged in every step; 1, 3 and 5 in the paper.
        max_shift: Largest random translation of what is looked at in every step, as a share of the side, against victims
            that augment, which the paper's do not; 0 turns it off.
        flip: Whether what is looked at in every step is mirrored at random, against victims that augment.
    """

    scenarios = frozenset({"transfer", "fine_tune"})
    name = "bullseye_polytope"
    looks_through = True
    several_targets = True

    def __init__(
        self,
        eps: float | str = 0.1,
        norm: Norm = "linf",
        steps: int = 800,
        learning_rate: float = 0.008,
        end_to_end: bool = False,
        draws: int = 1,
        max_shift: float = 0.0,
        flip: bool = False,
    ) -> None:
        super().__init__(eps, norm, steps)
        check_positive("learning_rate", learning_rate)
        at_least("draws", draws, 1, "--attack.draws")
        self.learning_rate = learning_rate
        self.end_to_end = end_to_end
        self.draws = draws
        self.augmentation = Augmentation(max_shift, flip) or None

    @property
    def variant(self) -> str:
        """See :attr:`Attack.variant`: which layers it looks at, and whether through the victims' augmentation."""
        return ", ".join([*(["all blocks"] if self.end_to_end else []), *(["augmented"] if self.augmentation else [])])

    def perturb(
        self, batch: CraftBatch, surrogates: Sequence[Surrogate], progress: Callable[[Tensor], None]
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`Attack.perturb`.

        Raises:
            InputError: If several draws are asked for and no surrogate has dropout.
        """
        if self.draws > 1 and not any(map(has_dropout, surrogates)):
            raise InputError(
                f"draws is {self.draws}, but no surrogate has dropout to draw from: choose 1 (--attack.draws) or a --dropout"
            )
        poisons = batch.bases.clone().requires_grad_()
        # Adam is elementwise, so that one optimiser over all setups equals one per setup.
        optimizer = torch.optim.Adam([poisons], lr=self.learning_rate)
        sight = Sight(batch, self.augmentation)
        with dropout_kept_on(surrogates, batch):
            centres = self._centres(batch, surrogates)

            def objective_of(seen: Tensor) -> Tensor:
                return self._objective(seen, centres, surrogates)

            for step in range(self.steps):
                objective, poisons.grad = mean_gradient(poisons, sight.views(), objective_of)
                optimizer.step()
                with torch.no_grad():
                    poisons.copy_(self.budget.project(poisons, batch.bases))
                progress(objective)
                sight.watch(step + 1, self.steps, lambda views: mean_value(poisons, views, objective_of))
        with torch.no_grad():
            if any(map(has_dropout, surrogates)):
                centres = self._centres(batch, surrogates)
            return poisons.detach(), mean_value(poisons, sight.settled(), objective_of)

    @torch.no_grad()
    def _centres(self, batch: CraftBatch, surrogates: Sequence[Surrogate]) -> Centres:
        return [
            [f.mean(1) for f in setup_features(s, batch.targets, end_to_end=self.end_to_end, draws=self.draws)]
            for s in surrogates
        ]

    def _objective(self, poisons: Tensor, centres: Centres, surrogates: Sequence[Surrogate]) -> Tensor:
        return bullseye_objective(poisons, centres, surrogates, end_to_end=self.end_to_end, draws=self.draws)


def bullseye_objective(
    poisons: Tensor, centres: Centres, surrogates: Sequence[Surrogate], *, end_to_end: bool = False, draws: int = 1
) -> Tensor:
    """Distance from the poisons' mean feature to the target's, relative to the target's norm.

    Args:
        poisons: ``(S, k, C, H, W)`` float in [0, 1].
        centres: Per surrogate one ``(S, F_b)`` per block, or the penultimate features alone.
        end_to_end: Whether to look at all blocks.
        draws: Dropout masks to average features over.

    Returns:
        ``(S,)``, averaged over blocks and surrogates; 0 when the target is exactly the centre.
    """
    losses = []
    for surrogate, wanted in zip(surrogates, centres, strict=True):
        found = setup_features(surrogate, poisons, end_to_end=end_to_end, draws=draws)
        # A target that no unit responds to has no direction to go to, but must not turn the poisons into NaN.
        distances = [
            (centre - features.mean(1)).norm(dim=-1) / centre.norm(dim=-1).clamp_min(1e-12)
            for centre, features in zip(wanted, found, strict=True)
        ]
        losses.append(torch.stack(distances).mean(0))
    return torch.stack(losses).mean(0)
