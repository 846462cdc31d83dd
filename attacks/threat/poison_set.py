"""What an attack hands over: perturbed images for one setup, checked against their budget and labels."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poison_and_defend.attacks.threat.additive_trigger import AdditiveTrigger
from poison_and_defend.attacks.threat.backdoor_trigger import BackdoorTrigger
from poison_and_defend.attacks.threat.budget import Budget
from poison_and_defend.attacks.threat.patch import Trigger
from poison_and_defend.attacks.threat.setups import Indices, Setup
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import brief

_MOST = 2**63 - 1  # Of a seed, a row or a class.


@dataclass(frozen=True, eq=False)
class PoisonSet:
    """The poisons of one setup. Labels are not stored: a clean-label poison keeps its base's.

    Attributes:
        setup: Target and bases.
        images: ``(k, C, H, W)`` uint8, the poisons, in the order of ``setup.base_indices``.
        bases: ``(k, C, H, W)`` uint8, the images that the poisons started from.
        target: ``(C, H, W)`` uint8, the test image to be misread.
        budget: The bound that every poison keeps after rounding to 8 bits.
        attack: Class name and arguments of the attack, for the record.
        objective: The attack's own final loss on this setup, before rounding to 8 bits.
        trigger: What a backdoor puts on images that are to be misread; None for an attack on chosen targets.
        goal: What success is measured on; see :data:`poison_and_defend.attacks.base.Goal`.
        visible_trigger: Whether the poisons carry the trigger on top of their budget, which then holds elsewhere.

    Raises:
        InputError: If shapes, dtypes or counts disagree, or a poison leaves the budget.
    """

    setup: Setup
    images: Tensor
    bases: Tensor
    target: Tensor
    budget: Budget
    attack: dict[str, Any] = field(default_factory=dict)
    objective: float = float("nan")
    trigger: BackdoorTrigger | None = None
    goal: str = "targets"
    visible_trigger: bool = False

    def __post_init__(self) -> None:
        name = f"poison set of setup {self.setup.index}"
        for label, images in (("poisons", self.images), ("bases", self.bases)):
            if images.dtype != torch.uint8 or images.ndim != 4:
                raise InputError(f"{name}: {label} are {images.dtype} of shape {tuple(images.shape)}, not uint8 (k, C, H, W)")
        indices = self.setup.base_indices
        if indices.dtype != np.int64 or indices.ndim != 1:
            raise InputError(f"{name}: base indices are {indices.dtype} of shape {indices.shape}, not int64 (k,)")
        if self.images.shape != self.bases.shape or len(self.images) != len(self.setup.base_indices):
            raise InputError(
                f"{name}: {len(self.images)} poisons, {len(self.bases)} bases and {len(self.setup.base_indices)} base indices"
            )
        if self.images.numel() == 0:
            raise InputError(f"{name} is empty: an attack needs at least 1 poison of at least 1 pixel")
        if (
            self.images.ndim != 4
            or self.target.ndim != 3
            or self.target.shape != self.images.shape[1:]
            or self.target.dtype != torch.uint8
        ):
            raise InputError(f"{name}: the target is {self.target.dtype} of shape {tuple(self.target.shape)}")
        if self.setup.target_label == self.setup.adversarial_label:
            raise InputError(f"{name}: target and bases are both of class {self.setup.target_label}")
        if (self.trigger is None) != (self.goal == "targets") or self.goal not in ("targets", "source", "others"):
            raise InputError(f"{name}: an attack on {self.goal} {'without' if self.trigger is None else 'with'} a trigger")
        if self.trigger is not None:
            self.trigger.check_fits(tuple(self.target.shape))
        bounded = self._without_trigger()
        outside = self.budget.exceeded(bounded, self.bases)
        if outside.any():
            worst = self.budget.distance(bounded, self.bases).max().item()
            raise InputError(
                f"{name}: {int(outside.sum())} poisons leave the budget, "
                f"{self.budget.norm} distance {worst:.5f} above eps {self.budget.eps:.5f}"
            )

    def _without_trigger(self) -> Tensor:
        """The poisons, with their bases' pixels where a visible trigger stands."""
        if self.trigger is None or not self.visible_trigger:
            return self.images
        mask = self.trigger.mask(*self.images.shape[-2:])
        if mask is None:
            raise InputError(
                f"poison set of setup {self.setup.index}: its trigger covers whole images, and nothing would hold its budget"
            )
        return torch.where(mask, self.bases, self.images)

    def trials(self, test_labels: Tensor) -> Tensor:
        """Rows of the test split that success is counted over: the targets, or the images that get the trigger.

        Args:
            test_labels: ``(T,)`` int64.
        """
        if self.goal == "targets":
            return torch.tensor(self.setup.target_indices)
        if self.goal == "source":
            return (test_labels == self.setup.target_label).nonzero()[:, 0]
        return (test_labels != self.setup.adversarial_label).nonzero()[:, 0]

    def tested_images(self, test_images: Tensor, test_labels: Tensor) -> Tensor:
        """The images ``(t, C, H, W)`` uint8 of :meth:`trials`, with the trigger if there is one."""
        rows = self.trials(test_labels)
        return test_images[rows] if self.trigger is None else self.trigger.stamp(test_images[rows], rows)

    def check_against(self, train_images: Tensor, train_labels: Tensor, test_labels: Tensor) -> None:
        """Refuse to be laid over a data set that it was not made for.

        Args:
            train_images: ``(N, C, H, W)`` uint8.
            train_labels: ``(N,)`` int64.
            test_labels: ``(T,)`` int64.
        """
        setup, rows = self.setup, torch.from_numpy(self.setup.base_indices)
        name = f"poison set of setup {setup.index}"
        used = rows if setup.train_rows is None else torch.cat([rows, torch.from_numpy(setup.train_rows)])
        outside = used[(used < 0) | (used >= len(train_images))]
        if len(outside):
            raise InputError(f"{name}: row {int(outside[0])} is outside the {len(train_images)} training images")
        if setup.train_rows is not None and not torch.equal(used[-len(rows) :], rows):
            raise InputError(f"{name}: its training rows do not end with its bases")
        for target in setup.target_indices:
            if not 0 <= target < len(test_labels) or int(test_labels[target]) != setup.target_label:
                raise InputError(f"{name}: test image {target} is not of class {setup.target_label} in this data set")
        if (train_labels[rows] != setup.adversarial_label).any():
            raise InputError(f"{name}: a base is not of class {setup.adversarial_label} in this data set")
        if train_images.shape[1:] != self.bases.shape[1:] or not torch.equal(train_images[rows], self.bases):
            raise InputError(f"{name}: its bases are not this data set's images at the same rows")

    def to_record(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON can hold it."""
        return {
            "setup": self.setup.index,
            "seed": self.setup.seed,
            "target_index": self.setup.target_index,
            "target_label": self.setup.target_label,
            "adversarial_label": self.setup.adversarial_label,
            "num_poisons": len(self.images),
            "norm": self.budget.norm,
            "eps": self.budget.eps,
            "objective": self.objective,
            "attack": self.attack,
            "more_targets": list(self.setup.more_targets),
            "goal": self.goal,
            "trigger": None if self.trigger is None else self.trigger.settings(),
            "visible_trigger": self.visible_trigger,
        }

    def to_tensors(self) -> dict[str, Tensor]:
        """Arrays: ``poisons``, ``bases``, ``target`` (uint8); ``base_indices``, ``train_rows``; a backdoor's ``trigger``.

        A patch is uint8 ``(C, P, P)``, a pattern that is added int16 ``(C, H, W)``.
        """
        tensors = {
            "poisons": self.images.contiguous(),
            "bases": self.bases.contiguous(),
            "target": self.target.contiguous(),
            "base_indices": torch.from_numpy(self.setup.base_indices.copy()),
        }
        if self.setup.train_rows is not None:
            tensors["train_rows"] = torch.from_numpy(self.setup.train_rows.copy())
        if self.trigger is not None:
            tensors["trigger"] = self.trigger.pattern.contiguous()
        return tensors

    @classmethod
    def from_parts(cls, record: dict[str, Any], tensors: dict[str, Tensor]) -> "PoisonSet":
        """Rebuild, and so validate, what :meth:`to_record` and :meth:`to_tensors` gave.

        Raises:
            InputError: If a part is missing or of the wrong kind.
        """
        try:
            setup = Setup(
                index=_whole(record, "setup"),
                seed=_whole(record, "seed"),
                target_index=_whole(record, "target_index"),
                target_label=_whole(record, "target_label"),
                adversarial_label=_whole(record, "adversarial_label"),
                base_indices=_rows(tensors["base_indices"], "base_indices"),
                train_rows=_rows(tensors["train_rows"], "train_rows") if "train_rows" in tensors else None,
                more_targets=tuple(_whole({"more_targets": row}, "more_targets") for row in record.get("more_targets", ())),
            )
            budget = Budget(record["norm"], float(record["eps"]))
            parts = tensors["poisons"], tensors["bases"], tensors["target"]
            attack, objective = dict(record["attack"]), float(record["objective"])
            stamped, visible = record.get("trigger"), bool(record.get("visible_trigger", False))
            goal = str(record.get("goal", "targets"))
            trigger = None if stamped is None else _trigger(dict(stamped), tensors["trigger"])
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(f"not a poison set of this project: {error!r}") from error
        return cls(setup, *parts, budget, attack, objective, trigger, goal, visible)


def _trigger(settings: dict[str, Any], pattern: Tensor) -> BackdoorTrigger:
    """What ``settings`` and ``pattern`` were told of; one that says no kind is a patch."""
    kind = settings.pop("kind", "patch")
    if kind == "additive":
        return AdditiveTrigger(pattern, **settings)
    if kind != "patch":
        raise InputError(f"the trigger's kind is {brief(kind)}: it is patch or additive")
    return Trigger(pattern, **settings | {"place": tuple(settings.get("place", (0, 0)))})


def _whole(record: dict[str, Any], name: str) -> int:
    value = record[name]
    if type(value) is not int or not 0 <= value <= _MOST:
        raise InputError(f"not a poison set of this project: {name} is {brief(value)}, not a whole number of at least 0")
    return value


def _rows(tensor: Tensor, name: str) -> Indices:
    if tensor.dtype != torch.int64 or tensor.ndim != 1 or bool((tensor < 0).any()):
        raise InputError(
            f"not a poison set of this project: {name} are {tensor.dtype} of shape {tuple(tensor.shape)}, not int64 (k,) of at "
            "least 0"
        )
    rows: Indices = tensor.numpy()
    return rows
