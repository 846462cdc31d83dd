"""One self-contained HTML page per experiment: opens from disk, asks nothing of the network."""

import json
from collections.abc import Sequence
from typing import Any

from poison_and_defend.reports.arm_names import arm_label
from poison_and_defend.reports.experiment.classes import NOTE as CLASSES_NOTE
from poison_and_defend.reports.experiment.classes import class_table
from poison_and_defend.reports.experiment.workings import HEAD, NOTE, workings
from poison_and_defend.reports.labels import (
    attack_label,
    benchmark_text,
    change_text,
    counts_text,
    noise_text,
    several,
    tested_noun,
)
from poison_and_defend.reports.markup import Cell, document, escape, picture, table
from poison_and_defend.reports.records import Result
from poison_and_defend.reports.summary import Summary

NUMBERS = (
    "setups",
    "attack success",
    "95 % interval",
    "setups, against no attack",
    "benchmark's rule",
    "clean test accuracy",
    "accuracy on the target's class",
)
"""Columns of :func:`number_cells`."""

DEFENSE = ("defence", "sigma", "eps / sigma")
"""Columns of :func:`defense_cells`."""

NOTES = (
    "Eps / sigma: the bound of an image's change, in the attack's norm, over the standard deviation of the defence's noise. "
    "Against no attack: in how many setups success is above, and below, that of the same training set unperturbed; p is the "
    "chance of so many above if neither were likelier (exact sign test). "
    "The benchmark's rule (Schwarzschild et al., 2021) looks at the first target of every setup alone, with the trigger if "
    "there is one; ± is its standard error, the largest possible one where at most five setups are on one side."
)


def number_cells(row: Summary) -> list[Cell]:
    """What was measured, of one row of a summary."""
    source = row.source_accuracy
    return [
        Cell(str(row.n), "number"),
        Cell(counts_text(row), "number"),
        Cell(f"{row.ci_low:.1%} to {row.ci_high:.1%}", "number"),
        Cell(change_text(row), "number"),
        Cell(benchmark_text(row), "number"),
        Cell(f"{row.clean_accuracy:.2%}", "number"),
        Cell("" if source is None else f"{source:.2%}", "number"),
    ]


def defense_cells(row: Summary) -> list[Cell]:
    """Of the columns of :data:`DEFENSE`."""
    return [Cell(row.label), *(Cell(text, "number") for text in noise_text(row))]


def _summary_table(rows: Sequence[Summary]) -> str:
    by_attack = several(attack_label(row.attack, row.variant) for row in rows)
    lines = []
    for row in rows:
        named = [Cell(attack_label(row.attack, row.variant))] if by_attack else []
        named += [Cell(row.victim), Cell(row.knowledge)]
        lines.append([*named, *defense_cells(row), *number_cells(row)])
    head = [*(["attack"] if by_attack else []), "victim", "attacker's knowledge", *DEFENSE, *NUMBERS]
    return table(head, lines)


def _setups_table(results: Sequence[Result]) -> str:
    defenses = list(dict.fromkeys(result.defense for result in results))
    by_victim = several(result.victim for result in results)
    lines = []
    for setup, victim in dict.fromkeys((result.setup, result.victim) for result in results):
        own = {r.defense: r for r in results if (r.setup, r.victim) == (setup, victim)}
        first = next(iter(own.values()))
        numbers = (setup, first.target_index, first.target_label, first.adversarial_label)
        line = [Cell(str(number), "number") for number in numbers]
        line += [Cell(victim)] if by_victim else []
        lines.append(line + [_outcome(own[name]) if name in own else Cell("") for name in defenses])
    head = ["setup", "first test image", "its true class", "wanted by the attacker", *(["victim"] if by_victim else [])]
    named = {result.defense: result.label or arm_label(result.defense) for result in results}
    return table([*head, *named.values()], lines)


def _workings_table(results: Sequence[Result]) -> str:
    rows = workings(results)
    if not rows:
        return ""
    lines = [[Cell(text, "number" if 2 <= place < len(HEAD) - 1 else "") for place, text in enumerate(row)] for row in rows]
    return f"<h2>Filters, recipes and votes</h2>\n<p>{escape(NOTE)}</p>\n{table(HEAD, lines)}"


def _classes_table(results: Sequence[Result]) -> str:
    head, rows = class_table(results)
    if not rows:
        return ""
    lines = [[Cell(text, "" if name == "victim" else "number") for name, text in zip(head, row, strict=True)] for row in rows]
    return f"<h2>Every adversarial class</h2>\n<p>{escape(CLASSES_NOTE)}</p>\n{table(head, lines)}"


def _outcome(result: Result) -> Cell:
    """How one victim read its target, or how many of its images it misread."""
    if result.trials == 1:
        return Cell(f"read as {result.predicted}", "hit" if result.success else "miss")
    return Cell(f"{result.successes} of {result.trials} = {result.rate:.0%}", "hit" if result.rate >= 0.5 else "miss")


def _story(result: Result, count: int) -> str:
    """What the attacker did, and what success is."""
    linf = result.norm == "linf"
    budget = f"{result.eps * 255:.4g}/255 (linf)" if linf else f"{result.eps:g} (l2, pixels in [0, 1])"
    changed = (
        f"{result.num_poisons} correctly labelled training images were changed by at most {budget}"
        f"{', and carry the trigger besides,' if result.visible_trigger else ''} in each of {count} setups"
    )
    if result.goal == "targets":
        alone = result.trials == 1
        what = "one chosen test image is" if alone else f"{result.trials} chosen test images of one class are"
        return (
            f"{changed}, so that {what} misread. Success means that {'the' if alone else 'a'} target is read as exactly the "
            "class that the attacker wants."
        )
    source = result.goal == "source"
    which = "test images of one class, the source class," if source else "test images of any other class"
    return (
        f"{changed}, so that {which} are read as the attacker's class once a trigger is stamped on them. Success is the share "
        f"of triggered test images {'of the source class' if source else 'of all other classes'} that are read as exactly "
        "the class that the attacker wants."
    )


def _uncertainty(rows: Sequence[Summary]) -> str:
    methods = "; ".join(dict.fromkeys(row.interval for row in rows))
    text = f"A rate from {rows[0].n} setups is uncertain: the interval says how much ({methods})."
    if rows[0].trials > rows[0].n:
        text += (
            f" The rate is the mean over setups; {tested_noun(rows[0].goal)} of one setup share its poisons and its victim, "
            "so that setups are what is independent, where there are several."
        )
    return f"{text} {NOTES}"


def render_page(
    title: str,
    summary: Sequence[Summary],
    results: Sequence[Result],
    figures: Sequence[tuple[str, bytes]],
    config: str,
    provenance: dict[str, Any],
) -> str:
    """The page.

    Args:
        summary: Of :func:`poison_and_defend.reports.summary.summarize`.
        figures: Caption and PNG bytes, in order; the first stands above the tables.
        config: Resolved configuration as YAML.
        provenance: Revision, versions, hardware.
    """
    shown = [picture(caption, png) for caption, png in figures]
    body = f"""<p>{escape(_story(results[0], summary[0].n))} {escape(_uncertainty(summary))} This is a measurement
against these attacks, not a certificate against all.</p>
{"".join(shown[:1])}
{_summary_table(summary)}
{_classes_table(results)}
{_workings_table(results)}
{"".join(shown[1:])}
<h2>Every setup</h2>
{_setups_table(results)}
<details><summary>Configuration</summary><pre>{escape(config)}</pre></details>
<details><summary>Made with</summary><pre>{escape(json.dumps(provenance, indent=2))}</pre></details>"""
    return document(title, body)
