"""Every countermeasure against the same poisons: what it was told, what is left of the attack, what it costs."""

from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any

import yaml

from poison_and_defend.reports.arm_names import arm_label
from poison_and_defend.reports.intervals import sign_test
from poison_and_defend.reports.records import NO_ATTACK, Result, read_results
from scripts.tables.reading import RECORDS, Rows, percent, read, success

_SEPARATES = 0.05
_UNPOISONED = f"{NO_ATTACK}+"
_COUNTS = ("1", "5", "25")

_NAMES = {
    **{f"jpeg_{quality}": f"JPEG {quality}" for quality in (25, 50, 75, 85)},
    "noise_25": "noise only",
    "ddim": "noise + ten DDIM steps",
    "ancestral": "noise + ten ancestral steps",
    "epic_transfer": "EPIC",
    "puregen_ddpm": "PureGen's DDPM recipe",
    "puregen_15": "PureGen's DDPM recipe, 15 of 75 steps",
}
"""Of arms that are presets of one class."""


def countermeasures(records: Mapping[str, str]) -> Callable[[], Rows]:
    """An arm a row: success of each record's attack, whose columns have these heads, then accuracies and what was dropped.

    A success is bold where it is below the undefended victims' of the same setups by the exact sign test.
    """

    def table() -> Rows:
        found = {record: _by_arm(read_results(RECORDS / record / "results.jsonl")) for record in records}
        summaries = {record: {row["defense"]: row for row in read(f"{record}/summary.json")} for record in records}
        first = next(iter(found.values()))
        heads = ["accuracy", "accuracy, unpoisoned set", "poisons dropped", "other rows dropped", "seconds"]
        rows = [["defence", "told", *records.values(), *heads]]
        for arm in dict.fromkeys(arm for own in found.values() for arm in own):
            if arm.startswith(_UNPOISONED):
                continue
            known = next(own[arm] for own in found.values() if arm in own)
            cells = []
            for record, own in found.items():
                text = success(summaries[record][arm]) if arm in own else "not measured"
                cells.append(f"**{text}**" if arm in own and _below(own[arm], own["none"]) else text)
            # Without poisons, so that accuracy is the same whoever made those of the other columns.
            clean = first.get(arm if arm == NO_ATTACK else f"{_UNPOISONED}{arm}", first[NO_ATTACK] if arm == "none" else [])
            right = percent(fmean(one.clean_accuracy for one in known))
            unpoisoned = percent(fmean(one.clean_accuracy for one in clean)) if clean else ""
            dropped = [_share([getattr(one, name) for one in known]) for name in ("poisons_dropped", "clean_dropped")]
            seconds = fmean(one.seconds or 0 for one in known)
            name = _NAMES.get(arm) or known[0].label or arm_label(arm)
            rows.append([name, known[0].told, *cells, right, unpoisoned, *dropped, f"{seconds:.2g}"])
        return rows

    return table


def certified_votes(record: str) -> Callable[[], Rows]:
    """What each vote of a record provably reads right after so many changed rows, without poisons where that was run."""

    def table() -> Rows:
        found = _by_arm(read_results(RECORDS / record / "results.jsonl"))
        config = yaml.safe_load((RECORDS / record / "config.yaml").read_text())["arms"]
        rows = [["vote", "models", "right", *(f"certified, k = {count}" for count in _COUNTS), "holds"]]
        for arm, own in found.items():
            if not own[0].certified or own[0].unproved is not None or not arm.startswith(_UNPOISONED):
                continue
            shares = (percent(fmean(one.certified.get(count, 0.0) for one in own)) for count in _COUNTS)
            name = (own[0].label or arm_label(arm)).removesuffix(", no attack")
            alpha = next((given["alpha"] for given in _arguments(config[arm]) if "alpha" in given), 0)
            holds = f"of each image but for a chance of {alpha:g}" if alpha else "certainly"
            models = str(own[0].models) if own[0].models > 1 else ""
            rows.append([name, models, percent(fmean(one.clean_accuracy for one in own)), *shares, holds])
        return rows

    return table


def _arguments(arm: Any) -> list[dict[str, Any]]:
    """Those of every step of an arm, as its configuration has them."""
    arguments = arm.get("init_args") or {}
    steps = arguments.get("steps")
    return [arguments] if steps is None else [own for step in steps for own in _arguments(step)]


def _by_arm(results: list[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.defense, []).append(result)
    return found


def _below(own: list[Result], undefended: list[Result]) -> bool:
    rates = {one.setup: one.rate for one in own}
    return sign_test([one.rate - rates[one.setup] for one in undefended if one.setup in rates])[2] < _SEPARATES


def _share(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return percent(fmean(known)) if known else ""
