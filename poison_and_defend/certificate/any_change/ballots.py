"""The votes: what received rows, or heads on parts of them, say of test images, and how many changed rows that withstands."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poison_and_defend.certificate.any_change.rows import overlapping, parts
from poison_and_defend.certificate.any_change.task import Family
from poison_and_defend.certificate.claims import count_votes
from poison_and_defend.certification.deterministic import (
    aggregation_poisons,
    election,
    neighbour_vote,
    partition_poisons,
    radius_poisons,
    run_off,
)
from poison_and_defend.defenses.voting.heads import Heads, trusted_head

Ints = NDArray[np.int64]
_IMAGES = 128
"""Test images that are judged at once: their likeness to all received rows is in memory."""

_TEMPERATURE = 0.1
"""Of the trusted head's scores, where they become what trusted rows add to counts."""


@dataclass(frozen=True)
class Rule:
    """One vote with its settings; those that its family has not are 0.

    Attributes:
        family: What votes; ``trusted`` is one head on trusted rows alone.
        radius: Cosine above which a received row is a neighbour.
        width: Of a kernel: the cosine over which its weight rises from a quarter to three.
        weight: What trusted rows add to counts at most, in rows of a class.
        m: Received rows of a head.
        spread: Heads of a bucket.
    """

    family: Family | Literal["trusted"]
    radius: float = 0.0
    width: float = 0.0
    weight: float = 0.0
    m: int = 0
    spread: int = 0

    @property
    def heads(self) -> tuple[int, int, bool] | None:
        """What tells its heads from others: rows of each, heads of a bucket, and whether they see trusted rows."""
        return (self.m, self.spread, self.family == "hybrid") if self.m else None

    def to_json(self) -> dict[str, Any]:
        """Its family and the settings that it has."""
        kept = {key: value for key, value in asdict(self).items() if value}
        if self.family in ("neighbours", "kernel"):
            kept["radius"] = self.radius
        return {key: round(value, 6) if isinstance(value, float) else value for key, value in kept.items()}


class Verdict(NamedTuple):
    """What a vote says.

    Attributes:
        labels: ``(T,)``.
        poisons: How many rows may change in any way, labels excepted, without changing it, ``(T,)``.
        relabelled: How many may change with their labels, ``(T,)``.
    """

    labels: Ints
    poisons: Ints
    relabelled: Ints


@dataclass(frozen=True, eq=False)
class Electorate:
    """Received and trusted rows, and everything that rules make of them before they see a test image.

    Attributes:
        places: ``(n, F)`` unit vectors of the received rows.
        labels: ``(n,)`` int64.
        trusted: Unit vectors and labels of rows out of the attacker's reach; maybe none.
        classes: How many there are.
        key: Of the parts.
        limit: The most poisons that a kernel is asked about.
    """

    places: Tensor
    labels: Tensor
    trusted: tuple[Tensor, Tensor]
    classes: int
    key: int
    limit: int

    @cached_property
    def _hot(self) -> Tensor:
        return torch.nn.functional.one_hot(self.labels, self.classes).float()

    @cached_property
    def _heads(self) -> dict[tuple[int, int, bool], tuple[Heads, Ints | None]]:
        return {}

    @cached_property
    def _alone(self) -> Tensor | None:
        return trusted_head(*self.trusted, self.classes) if len(self.trusted[1]) else None

    @property
    def rows_of_class(self) -> float:
        """Received rows of a class, on average."""
        return len(self.labels) / self.classes

    def judge(
        self, rules: Iterable[Rule], tested: Tensor, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> dict[Rule, Verdict]:
        """All rules on all test images ``(T, F)``, which are compared with the received rows once."""
        found: dict[Rule, list[Verdict]] = {rule: [] for rule in rules}
        for start in range(0, len(tested), _IMAGES):
            own = tested[start : start + _IMAGES]
            trusted = own @ self.trusted[0].T
            scores = None if self._alone is None else trusted @ self._alone
            self._block(found, own @ self.places.T, trusted, scores)
            progress(min(start + _IMAGES, len(tested)), len(tested))
        return {rule: Verdict(*map(np.concatenate, zip(*own, strict=True))) for rule, own in found.items()}

    def _block(self, found: dict[Rule, list[Verdict]], likeness: Tensor, trusted: Tensor, scores: Tensor | None) -> None:
        heads = {}
        for rule, verdicts in found.items():
            if rule.heads is None:
                verdicts.append(self._rows(rule, likeness, scores))
                continue
            models, holders = self._fitted(rule.heads)
            if rule.heads not in heads:
                heads[rule.heads] = models.scores(likeness, trusted if rule.heads[2] else None).numpy()
            verdicts.append(self._parts(rule, heads[rule.heads], holders))

    def _rows(self, rule: Rule, likeness: Tensor, scores: Tensor | None) -> Verdict:
        added = np.zeros((len(likeness), self.classes), np.int64)
        if scores is not None:
            if rule.family == "trusted":
                never = np.full(len(scores), len(self.labels))
                return Verdict(scores.argmax(1).numpy(), never, never)
            most = rule.weight * self.rows_of_class
            # Whole numbers, so that counts stay exact.
            added = np.rint(most * (scores / _TEMPERATURE).softmax(1).double().numpy()).astype(np.int64)
        if rule.width:
            weights = torch.sigmoid((likeness - rule.radius) / rule.width).numpy()
            given = weights, self.labels.numpy(), self.classes, self.limit
            new = neighbour_vote(*given, trusted=added, relabel=True).poisons
            return Verdict(*neighbour_vote(*given, trusted=added), new)
        counts = ((likeness > rule.radius).float() @ self._hot).numpy().astype(np.int64) + added
        return Verdict(counts.argmax(1), radius_poisons(counts), radius_poisons(counts, relabel=True))

    def _parts(self, rule: Rule, scores: NDArray[np.float32], holders: Ints | None) -> Verdict:
        # A changed row of a part may turn its heads, with a new label or the old one.
        if rule.family == "run_off":
            labels, poisons = run_off(election(scores))
            return Verdict(labels, poisons, poisons)
        answers = scores.argmax(2)
        counts = count_votes(answers, self.classes)
        poisons = partition_poisons(counts) if holders is None else aggregation_poisons(answers, holders, self.classes)
        return Verdict(counts.argmax(1), poisons, poisons)

    def _fitted(self, which: tuple[int, int, bool]) -> tuple[Heads, Ints | None]:
        if which not in self._heads:
            m, spread, hybrid = which
            rows, holders = overlapping(len(self.labels), m, spread, self.key) if spread else (None, None)
            seen = torch.from_numpy(parts(len(self.labels), m, self.key) if rows is None else rows)
            trusted = self.trusted if hybrid else None
            self._heads[which] = Heads.fit(self.places, self.labels, seen, self.classes, trusted), holders
        return self._heads[which]
