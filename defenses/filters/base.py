"""The interface of filters: what they are given, and what they answer."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.base import Defense

Needs = Literal["nothing", "features"]
Told = Literal["nothing", "bound", "poisons"]


@dataclass(frozen=True, eq=False)
class Received:
    """One training set as the defender gets it, after whatever rewrote it.

    Attributes:
        images: ``(N, C, H, W)`` uint8.
        labels: ``(N,)`` int64.
        keys: ``(N,)`` int64, the rows' numbers in the data set that was first read.
        num_classes: Of the data set.
        bound: How many poisons the defender was told that there are at most, all of one class; None if nothing was told, and
            for every filter that is not told of it (:attr:`Filter.told_of`).
        seed: Of whatever the filter draws.
        oracle_poisons: ``(N,)`` bool, which rows the attacker changed: what no real defender knows. None for every filter but
            those that are controls and say so (:attr:`Filter.told_of`).
    """

    images: Tensor
    labels: Tensor
    keys: Tensor
    num_classes: int
    bound: int | None
    seed: int
    oracle_poisons: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Workshop:
    """What a filter may have computed of the received set; nothing is, unless it is asked for.

    Attributes:
        network: The network that features come from, in evaluation mode: the frozen extractor in transfer learning, with its
            batch normalization even where features come from a faster form without; else one that was trained on the whole
            received set as the victim will be.
        features: Penultimate features ``(N, F)`` float32 of the received rows, in their order.
        train: Rows of the received set ``(n,)`` int64, one tensor a network, to networks trained on these in evaluation mode;
            all at once.
    """

    network: Callable[[], nn.Module]
    features: Callable[[], Tensor]
    train: Callable[[Sequence[Tensor]], list[nn.Module]]


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a filter says of a set.

    Attributes:
        kept: ``(N,)`` bool: which rows stay.
        scores: ``(N,)`` float: how suspicious each is, the higher the more.
    """

    kept: Tensor
    scores: Tensor

    def check(self, received: Received, name: str) -> "Verdict":
        """This verdict, once it is one of this set, on the CPU.

        Raises:
            InputError: If a shape or dtype is wrong, a score is not a number, or no row of a class is left.
        """
        count = len(received)
        kept, scores = (torch.as_tensor(value).detach().cpu() for value in (self.kept, self.scores))
        if kept.shape != (count,) or kept.dtype != torch.bool or scores.shape != (count,):
            raise InputError(
                f"the filter {name} answers {tuple(kept.shape)} {kept.dtype} rows and {tuple(scores.shape)} scores for {count} "
                f"images: a bool and a number for each are needed (--defenses)"
            )
        if scores.isnan().any():
            raise InputError(
                f"the filter {name} has scores that are not numbers for {int(scores.isnan().sum())} rows (--defenses)"
            )
        for label in received.labels.unique().tolist():
            own = received.labels == label
            if not kept[own].any():
                raise InputError(
                    f"the filter {name} keeps none of the {int(own.sum())} rows of class {label}: at least one must stay; tell "
                    f"it of fewer poisons or use another filter (--poisons_told, --defenses)"
                )
        return Verdict(kept, scores.float())


class Filter(Defense):
    """A whole set to the rows that stay. What comes after it sees these alone."""

    needs: ClassVar[Needs] = "features"
    """Whether it looks at features; a filter that needs nothing spares the victim's training that features cost."""

    told_of: Told = "bound"
    """What a run tells it that a real defender would have to find out. It is ``nothing``, the ``bound`` on the poisons of one
    class, or, for a control, which rows are ``poisons``. Nothing else is handed to it, and records say what was."""

    @abstractmethod
    def judge(self, received: Received, workshop: Workshop) -> Verdict:
        """Say which rows stay.

        Args:
            received: The set.
            workshop: Networks and features, computed when they are first asked for.
        """

    def check_set(self, labels: Tensor, bound: int | None) -> None:
        """Refuse a set that it cannot judge, before anything is computed.

        Args:
            labels: ``(N,)`` int64 of the received set.
            bound: How many poisons the defender was told that there are at most, all of one class; None if nothing was told.

        Raises:
            InputError: If it needs to be told more, or would keep no row of a class.
        """

    def check_network(self, network: nn.Module, name: str) -> None:
        """Refuse a network that it cannot look through, before anything is trained.

        Args:
            network: As the received set will be looked at through it; its weights may be others.
            name: What sentences call it.

        Raises:
            InputError: If it cannot.
        """

    def told(self, bound: int | None) -> str:
        """What it was told that a real defender would have to find out, in words; "" if nothing.

        Args:
            bound: What the run tells filters; a bound among its own arguments comes first.
        """
        if self.told_of == "poisons":
            return "which rows are poisoned"
        own = getattr(self, "bound", None)
        limit = bound if own is None else own
        return "" if self.told_of == "nothing" or limit is None else f"{limit} poisons of a class at most"
