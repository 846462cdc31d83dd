"""How success and objective go with what helps an attacker, and with noise: whether they go the right way, beyond chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from poison_and_defend.experiment.adaptive.task import NAMES
from poison_and_defend.reports.adaptive_checks import Check
from poison_and_defend.reports.intervals import mean_interval, paired_interval

Rates = Sequence[float]
"""Attack success of every setup, the mean over its victims, in [0, 1], in one order of setups everywhere."""


@dataclass(frozen=True)
class Point:
    """One value of what a curve is over.

    Attributes:
        value: Of the option.
        rates: Success of every setup.
        objectives: Of every setup, on draws that no step saw, lower is better; None where it was not measured.
    """

    value: float
    rates: Rates
    objectives: Sequence[float] | None = None


@dataclass(frozen=True)
class Curve:
    """Success and objective over one option.

    Attributes:
        points: At least two, by rising value.
        helps: Whether more of it helps the attacker.
        must: Whether it has to, beyond noise, from the first to the last point; otherwise it must not harm.
    """

    name: str
    points: Sequence[Point]
    helps: bool = True
    must: bool = False

    def text(self) -> str:
        """Its points as readers see them."""
        shown = [
            f"{point.value:.3g}: {fmean(point.rates):.0%}"
            + ("" if point.objectives is None else f" ({fmean(point.objectives):.3f})")
            for point in self.points
        ]
        return f"{self.name} {', '.join(shown)}"

    def faults(self) -> list[str]:
        """Why it is not as it should be, in words."""
        found = []
        ordered = list(self.points) if self.helps else list(reversed(self.points))
        for weaker, stronger in pairwise(ordered):
            if beyond_noise(stronger.rates, weaker.rates) < 0 or self._objectives(stronger, weaker) < 0:
                found.append(f"{self.name}: {stronger.value:.3g} is weaker than {weaker.value:.3g}")
        first, last = ordered[0], ordered[-1]
        gains = beyond_noise(last.rates, first.rates) > 0 or self._objectives(last, first) > 0
        # Where all setups succeed at once, there is nothing left to gain.
        if self.must and not gains and fmean(first.rates) < 1:
            found.append(f"{self.name}: no gain from {first.value:.3g} to {last.value:.3g}")
        return found

    def _objectives(self, stronger: Point, weaker: Point) -> int:
        if stronger.objectives is None or weaker.objectives is None or len(weaker.objectives) < 2:
            return 0
        low, high = mean_interval([w - s for s, w in zip(stronger.objectives, weaker.objectives, strict=True)])
        return 1 if low > 0 else -1 if high < 0 else 0


def beyond_noise(one: Rates, other: Rates) -> int:
    """1 if the first is higher, -1 if lower, 0 if their paired difference may be noise, at 95 %.

    The interval of Agresti and Min: it does not collapse where all setups agree, as that of a plain t would.
    """
    changes = [a - b for a, b in zip(one, other, strict=True)]
    low, high = paired_interval(len(changes), fmean(changes), fmean(change**2 for change in changes))
    return 1 if low > 0 else -1 if high < 0 else 0


def monotone(curves: Sequence[Curve], left_out: Sequence[str] = ()) -> Check:
    """Check 3.

    Args:
        left_out: Points that could not be tried, in words.
    """
    faults = [fault for curve in curves for fault in curve.faults()]
    measured = "; ".join([*(curve.text() for curve in curves), *(f"left out: {one}" for one in left_out)])
    points = [
        {
            "option": curve.name, "value": point.value, "success": fmean(point.rates),
            "objective": None if point.objectives is None else fmean(point.objectives),
        }
        for curve in curves for point in curve.points
    ]  # fmt: skip
    return Check(
        3,
        NAMES[3],
        "; ".join([f"success (objective) over {measured}", *faults]) if curves else f"no curve: {measured}",
        "no step of a curve goes the wrong way by more than the 95 % interval of its change, paired over setups, in success or "
        "in objective; eps gains by more than that, or all setups succeed at once",
        "fail" if faults else "pass" if curves else "not measured",
        {"points": points, "faults": faults},
    )  # fmt: skip
