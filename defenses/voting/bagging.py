"""Bagging: Jia, Cao, Gong, "Intrinsic Certified Robustness of Bagging against Data Poisoning Attacks", AAAI 2021."""

import secrets

import numpy as np
import torch
from torch import Tensor

from poison_and_defend.certification import FixedSize, largest_k, vote_bounds
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.voting.base import Voting, count_votes


class Bagging(Voting):
    """Every model trains on a random subsample of the set; how many changed rows its likeliest class survives is bounded.

    Subsamples are drawn without replacement, where the paper draws with it: fewer of them hold a poison, and rows that are
    only changed never alter how they are drawn. The bound is the exact one for that law: the class that is likeliest over the
    subsamples stays so, with chance 1 - alpha over those that were drawn (:func:`vote_bounds`,
    :func:`poison_and_defend.certification.search.largest_k` for changes without bound).

    Args:
        models: How many vote.
        size: Rows of each subsample; with half of the set or more nothing is ever proved.
        alpha: The chance at most that what is proved of one test image is wrong.
        key: What subsamples are drawn by, the seed of the run by default, and without a run a secret one, new at
            each call: who knows it when poisons are made places these where they count, and nothing is proved.

    Raises:
        InputError: If a value is out of range.
    """

    name = "bagging"
    color = "#c48aa8"

    def __init__(self, models: int = 100, size: int = 50, alpha: float = 0.001, key: int | None = None) -> None:
        at_least("models", models, 2, of="of bagging")
        at_least("size", size, 1, of="of bagging's subsamples")
        if not 0 < alpha < 1:
            raise InputError(f"alpha of bagging is {alpha:g}: it is above 0 and below 1 (--arms.{self.name}.alpha)")
        if key is not None and not 0 <= key < 2**63:
            raise InputError(f"key is {key}: it is at least 0 and below 2**63 (--arms.{self.name}.key)")
        self.models, self.size, self.alpha, self.key = models, size, alpha, key
        self.given = {"models": models, "size": size, "alpha": alpha, "key": key}

    def parts(self, keys: Tensor, labels: Tensor, num_classes: int) -> list[Tensor]:
        """See :meth:`Voting.parts`; a set that is no larger than the subsamples is refused.

        Raises:
            InputError: If every subsample would be the whole set.
        """
        if self.size >= len(keys):
            raise InputError(
                f"size of bagging's subsamples is {self.size}, and there are {len(keys)} rows: models that see all rows prove "
                f"nothing (--arms.{self.name}.size)"
            )
        key = secrets.randbits(63) if self.key is None else self.key
        draws = (np.random.default_rng(np.random.SeedSequence([key, number])) for number in range(self.models))
        # Drawn by position among the ordered numbers, so that nothing depends on how the rows came.
        ordered = keys.argsort()
        return [ordered[torch.from_numpy(draw.choice(len(keys), self.size, replace=False))].sort().values for draw in draws]

    def withstands(self, votes: Tensor, num_classes: int, rows: int) -> Tensor:
        """See :meth:`Voting.withstands`; 0 where the vote abstains."""
        bounds = vote_bounds(count_votes(votes, num_classes).numpy(), self.alpha)
        return torch.from_numpy(largest_k(bounds.winner, np.inf, 1.0, FixedSize(rows, self.size)).clip(min=0))
