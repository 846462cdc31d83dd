"""Trusted images, which say how features are compared and, where they have labels, which vote is best."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from poison_and_defend.certificate.any_change.ballots import Electorate
from poison_and_defend.certificate.any_change.rows import keyed_order
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.voting.space import Space

_HELD_OUT = 1000
_PAIRS = 2000


@dataclass(frozen=True, eq=False)
class Reference:
    """Trusted features.

    Attributes:
        space: How features are compared.
        places: ``(n, F)``, of images that the space was not learnt from where labels choose.
        labels: Of these, ``(n,)`` from 0 on; None where they are not to be looked at.
    """

    space: Space
    places: Tensor
    labels: Tensor | None

    @classmethod
    def of(cls, features: Tensor, labels: Tensor | None, key: int) -> "Reference":
        """With labels, half of the classes says how features are compared, and the other half which vote is best.

        One half for both would be too good to be true: the map would know the very classes that votes are chosen on.

        Args:
            features: ``(N, F)`` float32.
            labels: ``(N,)`` int64.
            key: Of the rows' order.
        """
        order = torch.from_numpy(keyed_order(len(features), key, 3))
        if labels is None:
            space = Space.fit(features, None)
            return cls(space, space.place(features[order[:_PAIRS]]), None)
        known = labels.unique()
        half = torch.isin(labels[order], known[: len(known) // 2])
        first, second = order[half], order[~half]
        space = Space.fit(features[first], labels[first])
        return cls(space, space.place(features[second]), labels[second].unique(return_inverse=True)[1])

    def radius(self, share: float) -> float:
        """The cosine that a share of pairs of different images exceeds."""
        some = self.places[:_PAIRS]
        likeness = (some @ some.T).double()
        pairs = likeness[torch.ones_like(likeness).triu(1).bool()]
        return float(pairs.kthvalue(max(1, round((1 - share) * len(pairs)))).values)

    def tried(self, trusted: int, key: int, ks: list[int], rows_of_class: float) -> tuple[Electorate, Tensor, Tensor, float]:
        """A received set out of these images, and test images with their labels.

        Args:
            trusted: Rows that are trusted, as many as of the real set.
            key: Of parts.
            ks: Numbers of poisons in the real set.
            rows_of_class: Of the real set.

        Returns:
            The set, test images and labels, and how many poisons of this set are as bad as one of the real set.

        Raises:
            InputError: If too few rows would be left.
        """
        assert self.labels is not None
        classes = int(self.labels.max()) + 1
        held = min(_HELD_OUT, len(self.labels) // 5)
        rest = len(self.labels) - held - trusted
        if rest < 10 * classes:
            raise InputError(
                f"trusted is {trusted}: of the reference's {len(self.labels)} images that votes are chosen on, {held} are "
                f"tested and {max(rest, 0)} would be received, where {10 * classes} are needed (--trusted, --reference)"
            )
        # Rows are in a keyed order already.
        checked, received = slice(held, held + trusted), slice(held + trusted, None)
        known = self.places[checked], self.labels[checked]
        votes = Electorate(self.places[received], self.labels[received], known, classes, key, 1)
        scale = votes.rows_of_class / rows_of_class
        votes = replace(votes, limit=max(1, int(np.ceil(max(ks) * scale))))
        return votes, self.places[:held], self.labels[:held], scale
