"""One self-contained HTML page per experiment: opens from disk, asks nothing of the network."""

import json
from collections.abc import Sequence
from typing import Any

from poison_and_defend.reports.labels import (
    attack_label,
    benchmark_text,
    change_text,
    counts_text,
    defense_label,
    several,
    tested_noun,
)
from poison_and_defend.reports.markup import Cell, document, escape, picture, table

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

NOTES = (
    "Against no attack: in how many setups success is above, and below, that of the same training set unperturbed; p is the "
    "chance of so many above if neither were likelier (exact sign test). "
    "The benchmark's rule (Schwarzschild et al., 2021) looks at the first target of every setup alone, with the trigger if "
    "there is one; ± is its standard error, the largest possible one where at most five setups are on one side."
)


def number_cells(row: dict[str, Any]) -> list[Cell]:
    """What was measured, of one row of a summary."""
    source = row["source_accuracy"]
    return [
        Cell(str(row["n"]), "number"),
        Cell(counts_text(row), "number"),
        Cell(f"{row['ci_low']:.1%} to {row['ci_high']:.1%}", "number"),
        Cell(change_text(row), "number"),
        Cell(benchmark_text(row), "number"),
        Cell(f"{row['clean_accuracy']:.2%}", "number"),
        Cell("" if source is None else f"{source:.2%}", "number"),
    ]


def defense_cells(row: dict[str, Any]) -> list[Cell]:
    """Defence and the noise that it adds, if any."""
    return [Cell(defense_label(row["defense"])), Cell(f"{row['sigma']:g}" if row["sigma"] else "", "number")]


def _summary_table(rows: Sequence[dict[str, Any]]) -> str:
    by_attack = several(rows, "attack")
    lines = []
    for row in rows:
        named = [Cell(attack_label(row["attack"]))] if by_attack else []
        named += [Cell(row["victim"]), Cell(row["knowledge"])]
        lines.append([*named, *defense_cells(row), *number_cells(row)])
    head = [*(["attack"] if by_attack else []), "victim", "attacker's knowledge", "defence", "sigma", *NUMBERS]
    return table(head, lines)


def _setups_table(records: Sequence[dict[str, Any]]) -> str:
    defenses = list(dict.fromkeys(record["defense"] for record in records))
    by_victim = several(records, "victim")
    lines = []
    for setup, victim in dict.fromkeys((record["setup"], record["victim"]) for record in records):
        own = {r["defense"]: r for r in records if (r["setup"], r["victim"]) == (setup, victim)}
        first = next(iter(own.values()))
        keys = ("target_index", "target_label", "adversarial_label")
        line = [Cell(str(setup), "number"), *(Cell(str(first[key]), "number") for key in keys)]
        line += [Cell(victim)] if by_victim else []
        lines.append(line + [_outcome(own[name]) if name in own else Cell("") for name in defenses])
    head = ["setup", "first test image", "its true class", "wanted by the attacker", *(["victim"] if by_victim else [])]
    return table([*head, *map(defense_label, defenses)], lines)


def _outcome(record: dict[str, Any]) -> Cell:
    """How one victim read its target, or how many of its images it misread."""
    if record["trials"] == 1:
        return Cell(f"read as {record['predicted']}", "hit" if record["success"] else "miss")
    share = record["successes"] / record["trials"]
    return Cell(f"{record['successes']} of {record['trials']} = {share:.0%}", "hit" if share >= 0.5 else "miss")


def _story(record: dict[str, Any], count: int) -> str:
    """What the attacker did, and what success is."""
    linf = record["norm"] == "linf"
    budget = f"{record['eps'] * 255:.4g}/255 (linf)" if linf else f"{record['eps']:g} (l2, pixels in [0, 1])"
    changed = (
        f"{record['num_poisons']} correctly labelled training images were changed by at most {budget}"
        f"{', and carry the trigger besides,' if record.get('visible_trigger') else ''} in each of {count} setups"
    )
    if record["goal"] == "targets":
        alone = record["trials"] == 1
        what = "one chosen test image is" if alone else f"{record['trials']} chosen test images of one class are"
        return (
            f"{changed}, so that {what} misread. Success means that {'the' if alone else 'a'} target is read as exactly the "
            "class that the attacker wants."
        )
    source = record["goal"] == "source"
    which = "test images of one class, the source class," if source else "test images of any other class"
    return (
        f"{changed}, so that {which} are read as the attacker's class once a trigger is stamped on them. Success is the share "
        f"of triggered test images {'of the source class' if source else 'of all other classes'} that are read as exactly "
        "the class that the attacker wants."
    )


def _uncertainty(rows: Sequence[dict[str, Any]]) -> str:
    methods = "; ".join(dict.fromkeys(row["interval"] for row in rows))
    text = f"A rate from {rows[0]['n']} setups is uncertain: the interval says how much ({methods})."
    if rows[0]["trials"] > rows[0]["n"]:
        text += (
            f" The rate is the mean over setups; {tested_noun(rows[0]['goal'])} of one setup share its poisons and its victim, "
            "so that setups are what is independent, where there are several."
        )
    return f"{text} {NOTES}"


def render_page(
    title: str,
    summary: Sequence[dict[str, Any]],
    records: Sequence[dict[str, Any]],
    figures: Sequence[tuple[str, bytes]],
    config: str,
    provenance: dict[str, Any],
) -> str:
    """The page.

    Args:
        summary: Of :func:`poison_and_defend.reports.records.summarize`.
        figures: Caption and PNG bytes, in order; the first stands above the tables.
        config: Resolved configuration as YAML.
        provenance: Revision, versions, hardware.
    """
    shown = [picture(caption, png) for caption, png in figures]
    body = f"""<p>{escape(_story(records[0], summary[0]["n"]))} {escape(_uncertainty(summary))} This is a measurement
against these attacks, not a certificate against all.</p>
{"".join(shown[:1])}
{_summary_table(summary)}
{"".join(shown[1:])}
<h2>Every setup</h2>
{_setups_table(records)}
<details><summary>Configuration</summary><pre>{escape(config)}</pre></details>
<details><summary>Made with</summary><pre>{escape(json.dumps(provenance, indent=2))}</pre></details>"""
    return document(title, body)
