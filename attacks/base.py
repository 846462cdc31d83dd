"""The interface of every attack: many setups in, one PoisonSet each out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from poison_and_defend.attacks.crafting.augmentation import Augmentation
from poison_and_defend.attacks.threat.additive_trigger import AdditiveTrigger
from poison_and_defend.attacks.threat.backdoor_trigger import BackdoorTrigger
from poison_and_defend.attacks.threat.budget import Budget, Norm, parse_eps
from poison_and_defend.attacks.threat.known_classes import OneClass, known_classes
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.sanitizing import Sanitizing
from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.attacks.threat.surrogate import CraftBatch, Retrain, Surrogate
from poison_and_defend.attacks.threat.trigger import TriggerConfig
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError

Scenario = Literal["transfer", "fine_tune", "from_scratch"]
"""``transfer``: a fresh head on frozen features; ``fine_tune``: fresh head, all layers trained; ``from_scratch``."""

Goal = Literal["targets", "source", "others"]
"""Success is measured on the targets, on triggered images of the source class, or of ``others``, all but the adversarial."""


class Attack(ABC):
    """A clean-label poisoning attack.

    Args:
        eps: Budget radius in [0, 1] pixel units, a number or a fraction such as ``8/255``.
        norm: ``linf`` or ``l2``.
        steps: Number of optimiser steps.

    Raises:
        InputError: If an argument is out of its range.
    """

    scenarios: ClassVar[frozenset[Scenario]]
    """The threat models in which the attack makes sense; others are refused before anything is trained."""

    name: ClassVar[str]
    """Name in records, on the command line and in file names."""

    goal: ClassVar[Goal] = "targets"
    several_targets: ClassVar[bool] = False
    """Whether one poison set may serve several targets."""

    uses_logits: ClassVar[bool] = False
    """Whether it looks at its surrogates' logits, whose classes must then be the data's."""

    differentiates_twice: ClassVar[bool] = False
    """Whether it needs the derivative, by the images, of its surrogates' gradient."""

    looks_through: ClassVar[bool] = False
    """Whether it looks at poisons through a :class:`poison_and_defend.attacks.crafting.views.Sight`.

    Its attacker may then know of a defence.
    """

    robust_surrogates: ClassVar[bool] = False
    """Whether the attacker's models are adversarially trained, independently of any victim."""

    one_class: OneClass | None = None
    """How surrogates are trained where the attacker knows the adversarial class alone; None for those who know all."""

    universal: ClassVar[bool] = False
    """Whether all poisons of a setup, and tested images ``test_scale``-fold, get one perturbation: `perturb` returns that."""

    test_scale: float = 1.0

    sources: int = 0
    """How many triggered source-class training images crafting sees per setup; -1 for as many as there are bases."""

    augmentation: Augmentation | None = None
    """What it knows of the victims' augmentation; without effect where it draws nothing."""

    trigger: TriggerConfig | None = None
    visible_trigger: bool = False
    """Whether poisons carry the trigger on top of their budget; otherwise whatever they carry is within it."""

    def __init__(self, eps: float | str, norm: Norm, steps: int) -> None:
        at_least("steps", steps, 1, "--attack.steps")
        self.budget = Budget(norm, parse_eps(eps))
        self.steps = steps

    @property
    def variant(self) -> str:
        """What it does otherwise than its name says, for whoever reads a table; "" for nothing."""
        return ""

    @property
    def total_steps(self) -> int:
        """How often `perturb` calls ``progress`` at most."""
        return self.steps

    @abstractmethod
    def perturb(
        self, batch: CraftBatch, surrogates: Sequence[Surrogate], progress: Callable[[Tensor], None]
    ) -> tuple[Tensor, Tensor]:
        """Optimise the poisons of all setups in the batch together.

        Args:
            progress: Called after every step with the objective of each setup, ``(S,)``.

        Returns:
            Poisons ``(S, k, C, H, W)`` float in the budget, and the final objective ``(S,)``, lower is better. Of a
            ``universal`` attack instead of poisons what is added to all of them, ``(S, 1, C, H, W)``.
        """

    def select(
        self,
        setups: Sequence[Setup],
        train_images: Tensor,
        train_labels: Tensor,
        batch: CraftBatch,
        surrogates: Sequence[Surrogate],
    ) -> list[Setup]:
        """Choose other bases of the same class than the setups name; most attacks take those that are given.

        Args:
            batch: As for :meth:`perturb`, with the bases that the setups name.
        """
        del train_images, train_labels, batch, surrogates
        return list(setups)

    def build_trigger(self, image_shape: tuple[int, int, int]) -> BackdoorTrigger | None:
        """What is stamped on images of shape (C, H, W), if the attack has a trigger before it crafts.

        Raises:
            InputError: If it does not fit.
        """
        return None if self.trigger is None else self.trigger.build(image_shape)

    def arguments(self) -> dict[str, Any]:
        """The attack's settings as JSON can hold them, for records and for telling runs apart."""
        plain = {key: value for key, value in vars(self).items() if isinstance(value, (int, float, str, bool, list, tuple))}
        stamped = {} if self.trigger is None else {"trigger": self.trigger.settings()}
        known = {} if self.augmentation is None else asdict(self.augmentation)
        return {"name": self.name, "norm": self.budget.norm, "eps": self.budget.eps, **plain, **known, **stamped}

    def craft(
        self,
        setups: Sequence[Setup],
        train_images: Tensor,
        train_labels: Tensor,
        test_images: Tensor,
        surrogates: Sequence[Surrogate],
        *,
        device: torch.device | str = "cpu",
        progress: Callable[[Tensor], None] = lambda objective: None,
        retrain: Retrain | None = None,
        class_surrogates: Mapping[int, Sequence[Surrogate]] | None = None,
        sanitizing: Sanitizing | None = None,
        watch: Callable[[int, Tensor], None] | None = None,
    ) -> list[PoisonSet]:
        """Craft, round to 8 bits and validate the poisons of every setup, all in one batch.

        Args:
            setups: All with the same number of bases and of targets.
            train_images: ``(N, C, H, W)`` uint8.
            train_labels: ``(N,)`` int64.
            test_images: ``(T, C, H, W)`` uint8.
            surrogates: The attacker's models, in evaluation mode on ``device``; their parameters are not changed.
            retrain: For attacks that retrain their surrogates while crafting.
            class_surrogates: Of attacks that know one class: by adversarial label; ``surrogates`` are then none.
            sanitizing: The defence that poisons will go through, as far as the attacker knows it.
            watch: Told at a quarter, half and the end of the objective ``(S,)`` through it, on draws that no step sees, and
                after how many steps that is.

        Raises:
            InputError: If the budget or the trigger does not fit, or a poison is not finite.
        """
        channels, height, width = train_images.shape[1:]
        self.budget.check_shape((channels, height, width))
        trigger = self.build_trigger((channels, height, width))
        batch = self._batch(setups, train_images, train_labels, test_images, trigger, device)
        chosen = self.select(setups, train_images, train_labels, batch, surrogates)
        if any(new is not old for new, old in zip(chosen, setups, strict=True)):
            batch = self._batch(chosen, train_images, train_labels, test_images, trigger, device)
        if self.one_class is not None:
            batch = replace(batch, classes=known_classes(self.name, chosen, train_images, train_labels, class_surrogates or {}))
        if sanitizing is not None:
            batch = replace(batch, sanitizing=sanitizing, watch=watch)
        if retrain is not None:
            batch = replace(batch, retrain=partial(retrain, chosen))

        def watched(objective: Tensor) -> None:
            self._check_finite(objective, chosen)
            progress(objective)

        crafted, objective = self.perturb(batch, surrogates, watched)
        self._check_finite(crafted.flatten(1).sum(1), chosen)
        rows = torch.stack([torch.from_numpy(s.base_indices) for s in chosen])
        bases = train_images[rows]
        triggers: list[BackdoorTrigger | None] = [trigger] * len(chosen)
        if self.universal:
            added = [AdditiveTrigger(own, self.test_scale) for own in self.budget.levels(crafted.detach().cpu())[:, 0]]
            images, triggers = torch.stack([one.poison(own) for one, own in zip(added, bases, strict=True)]), [*added]
        else:
            images = self.budget.quantize(crafted.detach().cpu(), bases)
        if trigger is not None and self.visible_trigger:
            images = trigger.stamp(images.flatten(0, 1), rows.flatten()).view_as(images)
        return [
            PoisonSet(
                setup, images[i], bases[i], test_images[setup.target_index], self.budget, self.arguments(), float(value),
                triggers[i], self.goal, self.visible_trigger,
            )
            for i, (setup, value) in enumerate(zip(chosen, objective.tolist(), strict=True))
        ]  # fmt: skip

    def _check_finite(self, values: Tensor, setups: Sequence[Setup]) -> None:
        """Stop at the first setup whose value ``(S,)`` is not a number: at once, not after all steps."""
        broken = ~values.isfinite()
        if broken.any():
            raise InputError(
                f"{self.name}: setup {setups[int(broken.nonzero()[0])].index} has no finite objective: take smaller steps "
                "(--attack.learning_rate) or another surrogate (--feature_recipe.learning_rate, --surrogate_weights)"
            )

    def _batch(
        self,
        setups: Sequence[Setup],
        train_images: Tensor,
        train_labels: Tensor,
        test_images: Tensor,
        trigger: BackdoorTrigger | None,
        device: torch.device | str,
    ) -> CraftBatch:
        rows = torch.stack([torch.from_numpy(s.base_indices) for s in setups])
        targets = test_images[torch.tensor([s.target_indices for s in setups])]
        sources = None
        if self.sources and trigger is not None:
            wanted = rows.shape[1] if self.sources < 0 else self.sources
            chosen = torch.stack([source_rows(setup, train_labels, wanted) for setup in setups])
            images = trigger.stamp(train_images[chosen.flatten()], chosen.flatten())
            sources = images.view(*chosen.shape, *images.shape[1:]).to(device).float() / 255
        return CraftBatch(
            bases=train_images[rows].to(device).float() / 255,
            base_labels=train_labels[rows].to(device),
            targets=targets.to(device).float() / 255,
            seeds=tuple(s.seed for s in setups),
            sources=sources,
            trigger=trigger,
            rows=rows,
        )


def check_positive(name: str, value: float) -> None:
    """Refuse an argument of an attack that is 0, negative or not a number."""
    if not value > 0:
        raise InputError(f"{name} is {value:g}: it must be above 0 (--attack.{name})")


def source_rows(setup: Setup, train_labels: Tensor, count: int) -> Tensor:
    """``(count,)`` int64: training rows of the source class, drawn by the setup's seed; repeated where there are too few.

    Raises:
        InputError: If the class has no training image.
    """
    candidates = (train_labels == setup.target_label).nonzero()[:, 0]
    if len(candidates) == 0:
        raise InputError(
            f"setup {setup.index}: its source class {setup.target_label} has no training image to put a trigger on"
        )
    order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed((setup.seed + 7) % 2**63))
    return candidates[order.repeat(-(-count // len(order)))[:count]]
