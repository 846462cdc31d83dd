"""Hidden trigger backdoor: poisons that look like their class and lie, in feature space, where triggered images lie.

Saha, Subramanya, Pirsiavash, "Hidden Trigger Backdoor Attacks" (AAAI 2020).
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from poison_and_defend.attacks.base import Attack, check_positive
from poison_and_defend.attacks.crafting.views import Sight, View, mean_gradient, mean_value
from poison_and_defend.attacks.threat.budget import Norm
from poison_and_defend.attacks.threat.surrogate import CraftBatch, Surrogate
from poison_and_defend.attacks.threat.trigger import PatchTrigger, TriggerConfig
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError


class HiddenTrigger(Attack):
    """Algorithm 1 of the paper, for a victim that is trained on features the attacker knows.

    Minimises ``sum_k ||f(z_k) - f(s_a(k))||^2`` (equation 2) subject to ``||z_k - t_k|| <= eps``: t are the bases, s images
    of the source class with the trigger at places of their own, and a pairs each poison with a source of its own, closest
    pair first, anew at every step. Plain gradient descent on the poisons, projected after every step.

    The sources are drawn once and kept, as in the authors' code, where Algorithm 1 draws others at every step. Squared
    distances depend on the scale of the features, so that ``learning_rate`` and ``tolerance`` go with a network. Several
    surrogates, which the paper does not have, are averaged.

    Args:
        eps: Budget radius, 16/255 (linf) in the paper.
        norm: ``linf`` as in the paper, or ``l2``.
        steps: At most so many steps; the authors run 5000.
        learning_rate: Factor of the gradient with respect to [0, 1] pixels, 0.01 in the authors' code.
        decay: Factor of the learning rate after every ``decay_every`` steps; the authors halve it.
        decay_every: 1000 in the authors' code.
        tolerance: A setup is finished once its squared distances to the sources are within this; 10 in the authors' code.
        stop_on: Whether the ``worst`` distance of a setup counts, as in the authors' code, or the ``sum``, as in the public
            benchmark (Schwarzschild et al., 2021).
        trigger: What is stamped on sources and on test images, never on poisons; null for 8 pixels at random places.
    """

    scenarios = frozenset({"transfer", "fine_tune"})
    name = "hidden_trigger"
    looks_through = True
    goal = "source"
    sources = -1

    def __init__(
        self,
        eps: float | str = "16/255",
        norm: Norm = "linf",
        steps: int = 5000,
        learning_rate: float = 0.01,
        decay: float = 0.5,
        decay_every: int = 1000,
        tolerance: float = 10.0,
        stop_on: Literal["worst", "sum"] = "worst",
        trigger: TriggerConfig | None = None,
    ) -> None:
        super().__init__(eps, norm, steps)
        check_positive("learning_rate", learning_rate)
        if not 0 < decay <= 1:
            raise InputError(f"decay is {decay:g}: it is a factor above 0 and at most 1 (--attack.decay)")
        at_least("decay_every", decay_every, 1, "--attack.decay_every")
        at_least("tolerance", tolerance, 0, "--attack.tolerance")
        self.learning_rate = learning_rate
        self.decay = decay
        self.decay_every = decay_every
        if stop_on not in ("worst", "sum"):
            raise InputError(f"stop_on is {stop_on!r}: it is worst or sum (--attack.stop_on)")
        self.tolerance = tolerance
        self.stop_on = stop_on
        self.trigger = PatchTrigger(size=8, placement="random") if trigger is None else trigger

    def perturb(
        self, batch: CraftBatch, surrogates: Sequence[Surrogate], progress: Callable[[Tensor], None]
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`Attack.perturb`."""
        assert batch.sources is not None
        with torch.no_grad():
            wanted = [_features(surrogate, batch.sources) for surrogate in surrogates]

        def distances_of(images: Tensor) -> Tensor:
            return paired_distances([_features(surrogate, images) for surrogate in surrogates], wanted)

        def value(views: Sequence[View]) -> Tensor:
            return mean_value(poisons, views, distances_of).sum(1)

        poisons, sight = batch.bases, Sight(batch, self.augmentation)
        rate = self.learning_rate
        for step in range(self.steps):
            distances, gradient = mean_gradient(poisons, sight.views(), distances_of)
            progress(distances.sum(1))
            unfinished = (distances.amax(1) if self.stop_on == "worst" else distances.sum(1)) > self.tolerance
            if not unfinished.any():
                sight.watch(self.steps, self.steps, value)
                break
            # A finished setup stands still but stays in the batch: its neighbours must not see whether it is there.
            moved = poisons - rate * gradient * unfinished[:, None, None, None, None]
            poisons = self.budget.project(moved, batch.bases)
            sight.watch(step + 1, self.steps, value)
            if (step + 1) % self.decay_every == 0:
                rate *= self.decay
        return poisons, value(sight.settled())


def _features(surrogate: Surrogate, images: Tensor) -> Tensor:
    """``(S, k, F)`` features of ``(S, k, C, H, W)`` images."""
    return surrogate.features(images.flatten(0, 1)).view(*images.shape[:2], -1)


def paired_distances(features: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Squared distance of every poison to the source that it is paired with, averaged over surrogates.

    Args:
        features: Per surrogate, poisons ``(S, k, F)``.
        wanted: Per surrogate, sources ``(S, k, F)``.

    Returns:
        ``(S, k)``; the pairing itself is not differentiated.
    """
    with torch.no_grad():
        # Differences, not the expanded square: once a pair is close, that would cancel to noise.
        every = [
            torch.cdist(own, goal, compute_mode="donot_use_mm_for_euclid_dist").square()
            for own, goal in zip(features, wanted, strict=True)
        ]
        pairing = greedy_pairing(torch.stack(every).mean(0))[..., None]
    pairs = [
        (own - goal.gather(1, pairing.expand_as(goal))).square().sum(-1) for own, goal in zip(features, wanted, strict=True)
    ]
    return torch.stack(pairs).mean(0)


def greedy_pairing(distances: Tensor) -> Tensor:
    """The closest pair of all, then the closest of what remains, until each row has a column of its own.

    Args:
        distances: ``(S, k, k)``, rows to columns.

    Returns:
        ``(S, k)`` int64: the column of every row. Of equal distances the first row counts, and in it the first column.
    """
    setups, count = distances.shape[:2]
    left = distances.clone()
    columns = torch.empty(setups, count, dtype=torch.int64, device=distances.device)
    each = torch.arange(setups, device=distances.device)
    for _ in range(count):
        first = left.flatten(1).argmin(1)
        row, column = first // count, first % count
        columns[each, row] = column
        left[each, row] = torch.inf
        left[each, :, column] = torch.inf
    return columns
