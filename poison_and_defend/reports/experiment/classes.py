"""Attack success class by class, of attacks that any image may be the victim of: the rows of a table of its own."""

from collections.abc import Sequence
from statistics import fmean

from poison_and_defend.reports.arm_names import arm_label
from poison_and_defend.reports.labels import several
from poison_and_defend.reports.records import Result

NOTE = (
    "Attack success by adversarial class, which images with the trigger are to be read as: the mean over its setups. "
    "One class can be far from the mean over classes."
)


def class_table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Head and rows, a row for each adversarial class and victim and a column for each arm, as text.

    Both are empty unless all results are of attacks on the other classes, and there are several adversarial classes.
    """
    classes = sorted({result.adversarial_label for result in results})
    if len(classes) < 2 or any(result.goal != "others" for result in results):
        return [], []
    by_victim = several(result.victim for result in results)
    arms = {result.defense: result.label or arm_label(result.defense) for result in results}
    rows = []
    for victim in dict.fromkeys(result.victim for result in results):
        for label in classes:
            own = [r for r in results if (r.victim, r.adversarial_label) == (victim, label)]
            if not own:
                continue
            rates = [[r.rate for r in own if r.defense == arm] for arm in arms]
            setups = str(len({r.setup for r in own}))
            named = [str(label), victim] if by_victim else [str(label)]
            rows.append([*named, setups, *(f"{fmean(found):.1%}" if found else "" for found in rates)])
    return [*(["class", "victim"] if by_victim else ["class"]), "setups", *arms.values()], rows
