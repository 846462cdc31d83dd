"""What filters dropped, what recipes and votes cost, and what a vote withstands: the rows of a table of its own."""

from collections.abc import Sequence
from statistics import fmean

from poison_and_defend.reports.arm_names import arm_label
from poison_and_defend.reports.labels import several
from poison_and_defend.reports.records import Result

HEAD = ("arm", "told", "AUROC", "poisons dropped", "other rows dropped", "models", "cost", "certified")
REFUSED = "refused"

NOTE = (
    "AUROC: the chance that a filter's score of a poison is above that of another row. Cost: seconds of training and testing, "
    "relative to the undefended victims of the same run or folder. Certified: the share of test images that are read right, "
    "provably also after so many training rows were changed in any way."
)


def workings(results: Sequence[Result]) -> list[list[str]]:
    """A row for every arm and victim that did more than rewrite rows, as text in the order of :data:`HEAD`."""
    by_victim = several(result.victim for result in results)
    rows = []
    for victim, arm in dict.fromkeys((result.victim, result.defense) for result in results):
        own = [result for result in results if (result.victim, result.defense) == (victim, arm)]
        first, cost = own[0], _cost(own, [r for r in results if (r.victim, r.defense) == (victim, "none")])
        if first.clean_dropped is None and first.models == 1 and not first.recipe:
            continue
        name = first.label or arm_label(arm)
        rows.append(
            [
                f"{victim}, {name}" if by_victim else name,
                first.told,
                _mean([r.auroc for r in own], "{:.3f}"),
                _mean([r.poisons_dropped for r in own], "{:.1%}"),
                _mean([r.clean_dropped for r in own], "{:.1%}"),
                str(first.models),
                "" if cost is None else f"{cost:.1f} x",
                _certified(own),
            ]
        )
    return rows


def _mean(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return form.format(fmean(known)) if known else ""


def _cost(own: Sequence[Result], plain: Sequence[Result]) -> float | None:
    seconds = [[r.seconds for r in part if r.seconds] for part in (own, plain)]
    if not all(seconds):
        return None
    return fmean(seconds[0]) / fmean(seconds[1])


def _certified(own: Sequence[Result]) -> str:
    if own[0].unproved is not None:
        return f"{REFUSED}: {own[0].unproved}"
    means = {count: fmean(r.certified.get(count, 0.0) for r in own) for count in own[0].certified}
    # Beyond the first number at which nothing is certified there is nothing.
    last = next((place for place, value in enumerate(means.values()) if value == 0), len(means))
    return ", ".join(f"{value:.0%} at {count}" for count, value in list(means.items())[: last + 1])
