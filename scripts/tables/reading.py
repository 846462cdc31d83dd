"""Committed records, and their values as pages show them."""

import json
from pathlib import Path
from typing import Any

from poison_and_defend.reports.arm_names import arm_label

ROOT = Path(__file__).resolve().parents[2]

RECORDS = ROOT / "docs" / "records"

Row = dict[str, Any]

Rows = list[list[str]]

Arms = tuple[str, ...]


def name_of(key: str) -> str:
    """An arm's name as reports show it, or an attack's as its paper writes it."""
    papers = {"witches_brew": "Witches' Brew", "label_consistent": "Label-consistent", "hidden_trigger": "Hidden trigger"}
    if arm_label(key) != key or "_" not in key:
        return arm_label(key)
    return papers.get(key, key.replace("_", " ").title())


def read(name: str) -> Any:
    """A record's JSON."""
    return json.loads((RECORDS / name).read_text())


def arms(name: str) -> dict[str, dict[str, Row]]:
    """Summary rows of a record by attack, with what is special about it, and defence."""
    found: dict[str, dict[str, Row]] = {}
    for row in read(f"{name}/summary.json"):
        variant = f" ({row['variant']})" if row.get("variant") else ""
        found.setdefault(name_of(row["attack"]) + variant, {})[row["defense"]] = row
    return found


def relative_budget(record: str, row: Row) -> str:
    """The attack's budget over the defence's noise, which older summaries do not say; "" without noise."""
    if not row["sigma"]:
        return ""
    if "eps_over_sigma" in row:
        return f"{row['eps_over_sigma']:.2g}"
    # A comparison keeps each attack's results in a folder of its own.
    own = next(path for name in (row["attack"], "") if (path := RECORDS / record / name / "results.jsonl").exists())
    line = next(line for line in map(json.loads, own.read_text().splitlines()) if line["defense"] == row["defense"])
    return f"{line['eps'] / line['sigma']:.2g}"


def percent(value: float, digits: int = 1) -> str:
    """A share as a page shows it."""
    return f"{100 * value:.{digits}f} %"


def success(row: Row) -> str:
    """Attack success with what was counted and its 95 % interval; of several trials a setup the mean of the setups' rates."""
    interval = f"({100 * row['ci_low']:.0f} to {100 * row['ci_high']:.0f})"
    if row["trials"] == row["n"]:
        return f"{row['successes']} of {row['n']} = {percent(row['success_rate'], 0)} {interval}"
    return f"{percent(row['success_rate'], 0)} of {row['trials']:,} {interval}"
