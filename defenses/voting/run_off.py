"""Rezaei, Banihashem, Chegini, Feizi, "Run-Off Election: Improved Provable Defense against Data Poisoning Attacks", 2023."""

import torch
from torch import Tensor

from poison_and_defend.certification.deterministic import election, run_off
from poison_and_defend.defenses.voting.partition import Partition


class RunOff(Partition):
    """Models on disjoint parts name one class each; the two that most name stand in a second round, where all models choose.

    Models that name neither are heard in the second round, by which of the two they rank higher. Radii are those of section
    4.2, counted from the votes of both rounds, with one model a changed row as in :class:`Partition`.

    Args:
        parts: How many parts, and so models.
        key: Key of the hash; any whole number that does not depend on the set.

    Raises:
        InputError: If a value is out of range.
    """

    name = "run_off"
    label = "run-off election"
    color = "#9c6fb5"
    ranked = True

    def decide(self, votes: Tensor, num_classes: int) -> Tensor:
        """See :meth:`Voting.decide`."""
        return self._held(votes)[0]

    def withstands(self, votes: Tensor, num_classes: int, rows: int) -> Tensor:
        """See :meth:`Voting.withstands`."""
        return self._held(votes)[1]

    def _held(self, ranks: Tensor) -> tuple[Tensor, Tensor]:
        winners, radii = run_off(election(-ranks.cpu().numpy().astype("int16")))
        return torch.from_numpy(winners), torch.from_numpy(radii)
