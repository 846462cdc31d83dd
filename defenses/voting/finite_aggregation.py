"""Wang, Levine, Feizi, "Improved Certified Defenses against Data Poisoning with (Deterministic) Finite Aggregation", 2022."""

import numpy as np
import torch
from torch import Tensor

from poison_and_defend.certification.deterministic import aggregation_poisons
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.voting.base import Voting
from poison_and_defend.defenses.voting.partition import part_of


class FiniteAggregation(Voting):
    """Split the set into ``parts * spread`` buckets, show each to ``spread`` of as many models, and let these vote.

    Every model sees ``spread`` buckets, and so as many rows as one of ``parts`` models on disjoint parts does. The models that
    hold a bucket are it and its shifts by fixed numbers, modulo their number (section 4.1). A changed row stays in its bucket,
    since buckets are made of keyed row numbers as in :class:`Partition`, where the paper hashes images; it may turn all models
    that hold it, and what that costs the winner is counted bucket by bucket (Theorem 3, with one bucket a change).

    Args:
        parts: k: a model sees one row in so many.
        spread: d: how many models see each row; 1 is the partition.
        key: Of buckets and shifts; any whole number that does not depend on the set.

    Raises:
        InputError: If a value is out of range, or there are more than 65,536 models.
    """

    name = "finite_aggregation"
    color = "#8c5a80"

    def __init__(self, parts: int = 10, spread: int = 4, key: int = 0) -> None:
        if parts < 2 or spread < 1 or parts * spread > 65536:
            raise InputError(
                f"parts is {parts} and spread {spread}: they are at least 2 and 1, and their product, the number of models, is "
                f"65536 at most (--arms.{self.name}.parts, --arms.{self.name}.spread)"
            )
        if not 0 <= key < 2**63:
            raise InputError(f"key is {key}: it is at least 0 and below 2**63 (--arms.{self.name}.key)")
        self.count, self.spread, self.key = parts, spread, key

    @property
    def models(self) -> int:
        """How many there are, as many as buckets."""
        return self.count * self.spread

    @property
    def holders(self) -> Tensor:
        """``(buckets, spread)`` int64: the models that see each bucket."""
        # No two shifts are equal, so that no model holds a bucket twice.
        shifts = np.random.default_rng(np.random.SeedSequence([self.key, 2])).permutation(self.models)[: self.spread]
        return (torch.arange(self.models)[:, None] + torch.from_numpy(shifts)) % self.models

    def parts(self, keys: Tensor, labels: Tensor, num_classes: int) -> list[Tensor]:
        """See :meth:`Voting.parts`."""
        buckets = part_of(keys, self.models, self.key)
        held = torch.zeros(self.models, self.models, dtype=torch.bool)
        held[self.holders, torch.arange(self.models)[:, None]] = True
        return [held[model, buckets].nonzero()[:, 0] for model in range(self.models)]

    def withstands(self, votes: Tensor, num_classes: int, rows: int) -> Tensor:
        """See :meth:`Voting.withstands`."""
        return torch.from_numpy(aggregation_poisons(votes.cpu().numpy(), self.holders.numpy(), num_classes))
