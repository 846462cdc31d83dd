"""Votes of heads that see trusted rows beside a part of the received ones."""

import numpy as np
import torch
from torch import Tensor

from poison_and_defend.certification.deterministic import partition_poisons
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.voting.base import Reading, Rows, count_votes
from poison_and_defend.defenses.voting.heads import Heads
from poison_and_defend.defenses.voting.space import Space

_TESTED = 2048
"""Test images that are asked about at once."""


class Hybrid(Reading):
    """A vote of ridge regressions on frozen features, each on all trusted rows and one part of the received ones.

    A changed row is in one part and turns one head, so that what stands is counted as for :class:`Partition` (Levine and
    Feizi, ICLR 2021, Theorem 1). Trusted rows make heads good that would see too few rows alone. They also say how features
    are compared (:class:`Space`). Parts are drawn under a key from the rows' places in the set, of which a few may be in none.

    Args:
        parts: How many parts of the received rows, and so heads.
        trusted: Rows out of the attacker's reach, as many of each class as of any other.
        key: Of the parts; any whole number that does not depend on the set.

    Raises:
        InputError: If a value is out of range.
    """

    name = "hybrid"
    label = "heads with trusted rows"
    color = "#5c8a9c"

    def __init__(self, parts: int = 100, trusted: int = 100, key: int = 0) -> None:
        at_least("parts", parts, 2, f"--arms.{self.name}.parts")
        at_least("trusted", trusted, 2, f"--arms.{self.name}.trusted")
        if not 0 <= key < 2**63:
            raise InputError(f"key is {key}: it is at least 0 and below 2**63 (--arms.{self.name}.key)")
        self.heads, self.trusted, self.key = parts, trusted, key

    def read(self, received: Rows, trusted: Rows, tested: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """See :meth:`Reading.read`; fewer rows than heads are refused.

        Raises:
            InputError: If a head would see no received row.
        """
        count = len(received.labels)
        if count < self.heads:
            raise InputError(f"parts is {self.heads}, and there are {count} rows: make fewer parts (--arms.{self.name}.parts)")
        order = np.random.default_rng(np.random.SeedSequence([self.key, 1])).permutation(count)
        parts = torch.from_numpy(order[: count // self.heads * self.heads]).view(self.heads, -1)
        space = Space.fit(*trusted)
        places, known = space.place(received.features), space.place(trusted.features)
        heads = Heads.fit(places, received.labels, parts, num_classes, (known, trusted.labels))
        counts = []
        for own in map(space.place, tested.split(_TESTED)):
            answers = heads.scores(own @ places.T, own @ known.T).argmax(2)
            counts.append(count_votes(answers, num_classes))
        votes = torch.cat(counts)
        return votes.argmax(1), torch.from_numpy(partition_poisons(votes.numpy()))
