"""Sleeper Agent: a backdoor whose trigger no training image shows.

Souri, Fowl, Chellappa, Goldblum, Goldstein, "Sleeper Agent: Scalable Hidden Trigger Backdoors for Neural Networks Trained
from Scratch" (NeurIPS 2022).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from poison_and_defend.attacks.crafting.parameter_gradients import gradient_norms
from poison_and_defend.attacks.crafting.precision import full_precision
from poison_and_defend.attacks.gradient_matching import GradientMatching
from poison_and_defend.attacks.threat.budget import Norm
from poison_and_defend.attacks.threat.setups import Setup, check_num_poisons
from poison_and_defend.attacks.threat.surrogate import CraftBatch, Surrogate
from poison_and_defend.attacks.threat.trigger import PatchTrigger, TriggerConfig
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError

Selection = Literal["gradient_norm", "given"]


class SleeperAgent(GradientMatching):
    """Algorithm 1 of the paper: gradient matching, retrained surrogates, and the bases that move a model most.

    The gradient to match (equation 3) is that of the mean loss of source-class training images with the trigger, each at
    a place of its own that stays, under the adversarial label. While crafting, the surrogates are trained again from new
    initialisations on the training set with the current poisons, ``retrains`` times at equal distances, and the gradient to
    match is computed anew (section 3.3). See :class:`GradientMatching` for the rest.

    Args:
        eps: Budget radius, 16/255 (linf) in the paper.
        norm: ``linf`` as in the paper, or ``l2``.
        steps: Steps in all, 250 in the paper.
        learning_rate: Adam's step in [0, 1] pixel units, of one surrogate; of K it is divided by K.
        max_shift: Largest random translation as a share of the side, 4/32 on CIFAR-10; 0 turns it off.
        flip: Whether views are mirrored at random.
        poison_batch: How many images are differentiated together, 512 in the paper; bounds memory.
        num_sources: Triggered source-class images behind the gradient to match; the paper takes the class, 5000 on CIFAR-10.
        retrains: How often surrogates are retrained, 4 in the paper: after steps 50, 100, 150 and 200 of 250.
        selection: ``gradient_norm`` perturbs the images of the adversarial class whose loss has the largest gradients
            (section 3.4); ``given`` those that the setups name.
        trigger: What is stamped on sources and on test images, never on poisons; null for 8 pixels at random places.
    """

    scenarios = frozenset({"from_scratch"})
    name = "sleeper_agent"
    goal = "source"

    def __init__(
        self,
        eps: float | str = "16/255",
        norm: Norm = "linf",
        steps: int = 250,
        learning_rate: float = 0.02,
        max_shift: float = 0.125,
        flip: bool = True,
        poison_batch: int = 512,
        num_sources: int = 5000,
        retrains: int = 4,
        selection: Selection = "gradient_norm",
        trigger: TriggerConfig | None = None,
    ) -> None:
        super().__init__(eps, norm, steps, learning_rate, 1, max_shift, flip, poison_batch)
        at_least("num_sources", num_sources, 1, "--attack.num_sources")
        if not 0 <= retrains < steps:
            raise InputError(f"retrains is {retrains}: at least 0 and fewer than the {steps} steps (--attack.retrains)")
        if selection not in get_args(Selection):
            raise InputError(f"selection is {selection!r}: it is gradient_norm or given (--attack.selection)")
        self.sources = num_sources
        self.retrains = retrains
        self.selection = selection
        self.trigger = PatchTrigger(size=8, placement="random") if trigger is None else trigger

    @property
    def retrain_steps(self) -> list[int]:
        """Steps before which surrogates are retrained."""
        return [round(number * self.steps / (self.retrains + 1)) for number in range(1, self.retrains + 1)]

    def goal_images(self, batch: CraftBatch) -> Tensor:
        """See :meth:`GradientMatching.goal_images`."""
        if batch.sources is None:
            raise InputError("sleeper_agent needs triggered images of the source class (--attack.num_sources)")
        return batch.sources

    def renew(self, step: int, batch: CraftBatch, poisons: Tensor) -> list[list[Surrogate]] | None:
        """See :meth:`GradientMatching.renew`."""
        if step not in self.retrain_steps:
            return None
        assert batch.retrain is not None  # perturb looked
        return batch.retrain(poisons)

    def perturb(
        self, batch: CraftBatch, surrogates: Sequence[Surrogate], progress: Callable[[Tensor], None]
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`Attack.perturb`."""
        if self.retrains and batch.retrain is None:
            raise InputError(
                f"retrains is {self.retrains}, but nothing here trains surrogates again: take 0 (--attack.retrains)"
            )
        return super().perturb(batch, surrogates, progress)

    def select(
        self,
        setups: Sequence[Setup],
        train_images: Tensor,
        train_labels: Tensor,
        batch: CraftBatch,
        surrogates: Sequence[Surrogate],
    ) -> list[Setup]:
        """The images of the adversarial class with the largest gradients of their own loss, as many as there were bases."""
        if self.selection == "given":
            return list(setups)
        norms: dict[int, Tensor] = {}
        chosen = []
        for setup in setups:
            if setup.train_rows is not None:
                raise InputError(
                    f"setup {setup.index} comes with its own training set and bases: perturb those, selection given "
                    "(--attack.selection)"
                )
            label, wanted = setup.adversarial_label, len(setup.base_indices)
            rows = (train_labels == label).nonzero()[:, 0]
            check_num_poisons(wanted, len(rows), label)
            if label not in norms:
                images = train_images[rows].to(batch.bases.device).float() / 255
                norms[label] = torch.stack([gradient_norms(full_precision(s), images, label) for s in surrogates]).mean(0).cpu()
                if not norms[label].isfinite().all():
                    raise InputError(
                        f"{self.name}: a surrogate has no finite gradient at an image of class {label}, which setup "
                        f"{setup.index} needs: train it at a smaller rate (--feature_recipe.learning_rate)"
                    )
            order = norms[label].argsort(descending=True, stable=True)[:wanted]
            chosen.append(replace(setup, base_indices=rows[order].sort().values.numpy()))
        return chosen
