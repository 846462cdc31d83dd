"""Deep k-NN: Peri et al., "Deep k-NN Defense against Clean-label Data Poisoning Attacks", ECCV workshops 2020."""

import torch
from torch import Tensor
from torch.nn import functional

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.filters.base import Filter, Received, Told, Verdict, Workshop

# Distances at once: 64 MiB of them in double precision.
_BLOCK = 2**23


class DeepKNN(Filter):
    """Algorithm 1: drop every row whose label is not the commonest among its nearest neighbours in feature space.

    The neighbours of a row are the ``k`` other rows at the least Euclidean distance, of any class. A row stays where its own
    label has as many votes as any other. Its score is the share of the neighbours that have the commonest other label, less the
    share that have its own: it goes where that is above 0.

    What public code does otherwise: the authors' lets each row vote for itself, others leave out the first neighbour that is
    found, which is another row where two are the same. A row is left out by its number here. Of rows at one distance, of which
    not all find a place among the k, those of lower numbers come first. The authors offer to repeat the rows of small classes;
    here none is repeated, and a class of fewer than k rows is refused: it could be outvoted though nobody poisoned it.

    Args:
        k: How many neighbours vote; null for twice the number of poisons that the run tells filters of, as the paper advises.

    Raises:
        InputError: If k is below 1.
    """

    name = "deep_knn"
    label = "deep k-NN"
    color = "#4f7cac"

    def __init__(self, k: int | None = None) -> None:
        self.given = {"k": k}
        if k is not None and k < 1:
            raise InputError(f"k is {k}: at least 1 neighbour votes (--arms.{self.name}.k)")
        self.k = k

    @property
    def told_of(self) -> Told:  # type: ignore[override]
        """The bound, where it chooses k by it."""
        return "bound" if self.k is None else "nothing"

    def neighbours(self, bound: int | None) -> int:
        """How many neighbours vote where the run tells of ``bound`` poisons.

        Raises:
            InputError: If neither the run nor its own argument says.
        """
        if self.k is not None:
            return self.k
        if bound is None:
            raise InputError(
                f"{self.name} must be told how many neighbours vote, or how many poisons a class has at most "
                f"(--arms.{self.name}.k, --poisons_told)"
            )
        return 2 * bound

    def check_set(self, labels: Tensor, bound: int | None) -> None:
        """See :meth:`Filter.check_set`."""
        count = self.neighbours(bound)
        for label, size in zip(*labels.unique(return_counts=True), strict=True):
            if count > size:
                twice = "" if self.k is not None else f", twice the {bound} poisons that it is told of"
                raise InputError(
                    f"{self.name} asks {count} neighbours{twice}, and class {int(label)} has {int(size)} rows: k is at most "
                    f"the size of a class (--arms.{self.name}.k, --poisons_told)"
                )

    def judge(self, received: Received, workshop: Workshop) -> Verdict:
        """See :meth:`Filter.judge`."""
        count = self.neighbours(received.bound)
        scores = outvoted(workshop.features(), received.labels, count)
        return Verdict(scores <= 0, scores)


def outvoted(features: Tensor, labels: Tensor, k: int) -> Tensor:
    """By how much another label has more votes among a row's nearest neighbours than its own.

    Args:
        features: ``(n, F)`` float.
        labels: ``(n,)`` int64.
        k: How many of the other rows vote; all of them, if there are fewer.

    Returns:
        ``(n,)`` float64, between -1 and 1: a difference of shares of the votes.
    """
    # Differences of squares lose digits by the square of how far all rows are from the origin.
    own = features.double() - features.double().mean(0)
    squares, votes_of = own.square().sum(1), functional.one_hot(labels.unique(return_inverse=True)[1]).double()
    count = min(k, len(own) - 1)
    found = []
    for rows in torch.arange(len(own)).split(max(1, _BLOCK // len(own))):
        # The row's own square is left out: it changes no order.
        distances = torch.addmm(squares, own[rows], own.T, alpha=-2)
        distances[torch.arange(len(rows)), rows] = float("inf")
        last = distances.topk(count, dim=1, largest=False).values[:, -1:]
        voters, tied = distances < last, distances == last
        room = count - voters.sum(1, keepdim=True)
        voters |= tied & (tied.cumsum(1) <= room)
        votes = voters.double() @ votes_of
        mine = votes_of[rows].bool()
        found.append(votes.masked_fill(mine, 0).amax(1) - votes[mine])
    scores: Tensor = torch.cat(found) / count
    return scores
