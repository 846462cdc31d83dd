"""A control of filters: the one that makes no mistake."""

from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.filters.base import Filter, Received, Verdict, Workshop


class PerfectFilter(Filter):
    """Drop exactly the poisons: a control that shows what the best of all filters could achieve.

    It is told which rows the attacker changed, which no defender knows, and records say so. Where nobody changed any, as in an
    arm without attack, it drops nothing. A poison that other countermeasures rewrote before is a poison still.
    """

    name = "perfect_filter"
    color = "#6b8f71"
    needs = "nothing"
    told_of = "poisons"

    def judge(self, received: Received, workshop: Workshop) -> Verdict:
        """See :meth:`Filter.judge`.

        Raises:
            InputError: If nobody says which rows are poisoned, as outside an experiment.
        """
        poisons: Tensor | None = received.oracle_poisons
        if poisons is None:
            raise InputError(
                f"{self.name} must be told which rows are poisoned, and only an experiment can tell it (--defenses)"
            )
        return Verdict(~poisons, poisons.double())
