"""Several experiments side by side: one figure and one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from poison_and_defend.reports.experiment.page import DEFENSE, NOTES, NUMBERS, defense_cells, number_cells
from poison_and_defend.reports.figures import draw_success
from poison_and_defend.reports.labels import attack_label, several
from poison_and_defend.reports.markup import Cell, document, escape, picture, table
from poison_and_defend.reports.records import NO_ATTACK
from poison_and_defend.reports.summary import Summary

matplotlib.use("Agg")


class _Group(NamedTuple):
    """What one group of bars is of."""

    run: str
    dataset: str
    attack: str
    victim: str


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A summary of one of several experiments.

    Attributes:
        run: Name of the experiment's folder.
        dataset: What its victims were trained on.
        report: Relative address of its own page; "" if it has none.
        summary: What it found, of one attack, victim and defence.
    """

    run: str
    dataset: str
    report: str
    summary: Summary

    @property
    def group(self) -> _Group:
        """The group of bars that it belongs to."""
        return _Group(self.run, self.dataset, attack_label(self.summary.attack, self.summary.variant), self.summary.victim)

    def to_json(self) -> dict[str, Any]:
        """What a row of the overview's ``summary.json`` holds."""
        return {"run": self.run, "dataset": self.dataset, "report": self.report, **self.summary.to_json()}


def _arms(rows: Sequence[RunSummary]) -> list[str]:
    """Names of all arms: the control and the undefended run first, the others as they appear."""
    found = dict.fromkeys(row.summary.defense for row in rows)
    return sorted(found, key=lambda name: (NO_ATTACK, "none").index(name) if name in (NO_ATTACK, "none") else 2)


def overview(rows: Sequence[RunSummary]) -> Figure:
    """Attack success with intervals beside clean accuracy: a group of bars per attack and victim, one bar an arm.

    Args:
        rows: Of all experiments, one after the other.
    """
    arms = _arms(rows)
    groups = list(dict.fromkeys(row.group for row in rows))
    height = 0.8 / len(arms)
    # A line of text needs its height, however few the arms.
    size = (10.5, max(0.19 * len(arms), 0.5) * len(groups) + 1.4)
    figure = Figure(figsize=size, layout="constrained")
    success, accuracy = figure.subplots(1, 2, sharey=True)
    for number, arm in enumerate(arms):
        own = [row for row in rows if row.summary.defense == arm]
        places = np.array([groups.index(row.group) for row in own], float)
        places += (number - (len(arms) - 1) / 2) * height
        first = own[0].summary
        style: dict[str, Any] = {"height": height, "color": first.color or f"C{number}", "label": first.label}
        draw_success(success, places, [row.summary for row in own], **style)
        accuracy.barh(places, [100 * row.summary.clean_accuracy for row in own], **style)
        for place, row in zip(places, own, strict=True):
            success.text(102, place, f"{row.summary.success_rate:.0%}", va="center", fontsize=7)
            accuracy.text(102, place, f"{row.summary.clean_accuracy:.1%}", va="center", fontsize=7)
    names = ["\n".join(_group_lines(groups, group)) for group in groups]
    success.set(xlim=(0, 100), xlabel="attack success, % (95 % interval)", yticks=range(len(groups)), yticklabels=names)
    accuracy.set(xlim=(0, 100), xlabel="accuracy on clean test images, %")
    success.set_ylim(len(groups) - 0.5, -0.5)
    for axes in (success, accuracy):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    handles, labels = success.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(arms), fontsize=9, frameon=False)
    return figure


def _group_lines(groups: Sequence[_Group], group: _Group) -> list[str]:
    """What tells a group from the others, a line each; the run's name only where nothing else does."""
    lines = [group.attack]
    lines += [group.victim] if several(other.victim for other in groups) else []
    lines += [group.dataset] if several(other.dataset for other in groups) else []
    twins = (other.run for other in groups if other[1:] == group[1:])
    return lines + ([group.run] if several(twins) else [])


def render_overview(title: str, rows: Sequence[RunSummary], figure: bytes) -> str:
    """The page: a figure and one table of all attacks.

    Args:
        rows: As for :func:`overview`.
        figure: PNG bytes.
    """
    by_data = several(row.dataset for row in rows)
    head = [*(["data"] if by_data else []), "attack", "victim", "attacker's knowledge", "success on", *DEFENSE]
    lines = []
    for row in rows:
        own = row.summary
        named = [Cell(row.dataset)] if by_data else []
        named += [Cell(attack_label(own.attack, own.variant), href=row.report)]
        named += [Cell(text) for text in (own.victim, own.knowledge, own.goal)]
        lines.append([*named, *defense_cells(own), *number_cells(own)])
    methods = "; ".join(dict.fromkeys(row.summary.interval for row in rows))
    text = (
        "Success on targets: they are read as exactly the class that the attacker wants. On source: the share of triggered "
        "test images of the source class that are; on others: of all classes but the attacker's. Rates are means over setups; "
        f"their 95 % intervals: {methods}. {NOTES} These are measurements against these attacks, not a certificate "
        "against all."
    )
    shown = picture("Attack success and test accuracy of every attack under each defence.", figure)
    return document(title, f"<p>{escape(text)}</p>\n{shown}\n{table([*head, *NUMBERS], lines)}", width=90)
