"""What presets of countermeasures leave open, and which value was taken on setups that no table uses."""

from statistics import fmean
from typing import Any

from scripts.tables.reading import Rows, percent, read

_NAMES = {
    "dp_sgd": "DP-SGD",
    "gradient_shaping": "gradient shaping",
    "epic": "EPIC",
    "partition": "partition vote",
    "finite_aggregation": "finite aggregation",
    "run_off": "run-off election",
    "neighbours": "radius neighbours",
    "kernel": "kernel vote",
    "hybrid": "heads with trusted rows",
}


def settings() -> Rows:
    """A countermeasure a row: its values, and what was found of each, in one order; the value that was taken is bold."""
    record = read("countermeasure_settings.json")
    data = list(record["accuracy"])
    rows = [["countermeasure", "tried", *(f"misread of {record['n']}, accuracy or certified: {name}" for name in data)]]
    for name, own in record["countermeasures"].items():
        tried = own["candidates"]
        values = [_bold(_values(one["values"]), one["values"] == own["chosen"]) for one in tried]
        found = [[_bold(_found(one[part]), one["values"] == own["chosen"]) for one in tried] for part in data]
        rows.append([_NAMES.get(name, name), "; ".join(values), *("; ".join(cells) for cells in found)])
    return rows


def _values(values: dict[str, Any]) -> str:
    return ", ".join(f"{option} {value:g}" for option, value in values.items())


def _found(row: dict[str, Any]) -> str:
    if "certified" in row:
        return percent(fmean(row["certified"].values()))
    return f"{row['successes']}, {percent(row['accuracy'])}"


def _bold(text: str, chosen: bool) -> str:
    return f"**{text}**" if chosen else text
