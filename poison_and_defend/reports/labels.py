"""Names and counts as a reader expects them, the same in tables, figures and pages."""

from collections.abc import Iterable

from poison_and_defend.reports.summary import Summary

_TESTED = {"targets": "target", "source": "triggered source class", "others": "triggered other classes"}

ATTACKERS = {
    "oblivious": "ignores the defence",
    "defense": "knows the defence",
    "surrogate_defense": "knows a defence like it",
    "seed": "knows its noise too",
}
"""Attackers by what they know of a defence, after "who"."""


def attack_label(name: str, variant: str = "") -> str:
    """An attack's name in words, and what it does otherwise than the name says."""
    return f"{name.replace('_', ' ')} ({variant})" if variant else name.replace("_", " ")


def tested_label(goal: str) -> str:
    """What success is measured on; see :data:`poison_and_defend.attacks.base.Goal`."""
    return _TESTED.get(goal, goal)


def tested_noun(goal: str) -> str:
    """What is counted where a setup has several trials."""
    return "targets" if goal == "targets" else "images"


def several(values: Iterable[str]) -> bool:
    """Whether rows differ in what they say of something, so that a table has to show it."""
    return len(set(values)) > 1


def counts_text(row: Summary) -> str:
    """Attack success of a summary row in few characters."""
    counts, rate = f"{row.successes} of {row.trials}", f"{row.success_rate:.0%}"
    # Several trials are no equation: the rate is the mean of the setups' own, which may differ in their number of trials.
    return f"{counts} = {rate}" if row.trials == row.n else f"{rate}: {counts}"


def noise_text(row: Summary) -> tuple[str, str]:
    """The noise that a summary row's defence adds, and the attack's budget relative to it; empty without noise."""
    return ("", "") if row.eps_over_sigma is None else (f"{row.sigma:g}", f"{row.eps_over_sigma:.2g}")


def success_text(row: Summary) -> str:
    """Attack success of a summary row, with what was counted."""
    noun = "" if row.trials == row.n else f" {tested_noun(row.goal)}, {row.n} setups"
    return counts_text(row) + noun


def change_text(row: Summary) -> str:
    """In how many setups a summary row's success is above and below that of the arm without attack; "" if there is none."""
    if row.p_value is None:
        return ""
    p = "< 0.001" if row.p_value < 0.001 else f"{row.p_value:.3f}"
    return f"{row.higher} above, {row.lower} below, p {p}"


def benchmark_text(row: Summary) -> str:
    """The public benchmark's measure of a summary row with its error bar."""
    return f"{row.target_success} of {row.n} ± {row.benchmark_error:.1%}"
