"""Results as JSON: one line per setup, victim and defence, and a summary with intervals."""

import json
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from poison_and_defend.core.files import write_bytes, write_json
from poison_and_defend.core.reading.files import brief, check_fields, guarded, parse_json, read_text
from poison_and_defend.reports.intervals import benchmark_error, rate_interval, sign_test
from poison_and_defend.reports.labels import NO_ATTACK

Record = dict[str, Any]

_WHAT = "no list of results"
_NUMBERS = ("setup", "target_index", "target_label", "adversarial_label", "num_poisons", "successes", "trials")
_FIELDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("attack", "defense", "victim", "knowledge", "goal", "norm"), str),
    **dict.fromkeys(_NUMBERS, int),
    **dict.fromkeys(("sigma", "eps", "clean_accuracy"), float),
    "success": (bool, int),
    "predicted": (int, list),
    "source_accuracy": (float, type(None)),
}


def write_results(path: Path, records: Iterable[Record]) -> None:
    """Write one JSON object a line, all at once."""
    write_bytes(path, "".join(json.dumps(record) + "\n" for record in records).encode())


def read_results(path: Path, option: str = "--run") -> list[Record]:
    """Read what :func:`write_results` wrote, also before there were backdoors; an absent file holds no results.

    Args:
        path: The file.
        option: What the user should change if it cannot be read.

    Raises:
        InputError: If it cannot be read, or a line is no result.
    """
    if not os.path.lexists(path):
        return []
    lines = read_text(path, _WHAT, option).splitlines()
    return [_checked(parse_json(line, path, _WHAT, option), f"{path}, line {n}", option) for n, line in enumerate(lines, 1)]


def _checked(value: Any, name: str, option: str) -> Record:
    with guarded(name, _WHAT, option):
        record: Record = check_fields(_completed(value), _FIELDS, name, _WHAT, option)
        if not 0 <= record["successes"] <= record["trials"] or not 1 <= record["trials"] < 2**31:
            raise ValueError(f"{record['successes']} of {record['trials']} trials succeed")
        for key in ("sigma", "eps"):
            if not 0 <= record[key] < 1e6:
                raise ValueError(f"its {key} is {record[key]:g}")
        for key in (*_NUMBERS, "clean_accuracy", "source_accuracy"):
            if record[key] is not None and abs(record[key]) > 2**63:
                raise ValueError(f"its {key} is {brief(record[key])}")
    return record


def _completed(record: Record) -> Record:
    """Records without these keys are of attacks on one target, by an attacker who knows the victim's architecture."""
    defaults = {
        "victim": record.get("backbone", "unknown"),
        "knowledge": "white box" if record.get("scenario") == "transfer" else "grey box",
        "goal": "targets",
        "successes": int(record["success"]),
        "trials": 1,
        "source_accuracy": None,
    }
    return defaults | record


def summarize(records: list[Record]) -> list[Record]:
    """Per attack, victim and defence: counts, success rate with its interval, the public benchmark's measure, accuracies.

    Groups are in order of appearance, attack by attack and victim by victim, the arm without an attack first. Where there is
    one, every other arm is compared with it setup by setup: ``higher``, ``lower`` and ``p_value`` of
    :func:`poison_and_defend.reports.intervals.sign_test`, null elsewhere.
    """
    attacks, victims, defenses = ([*dict.fromkeys(r[key] for r in records)] for key in ("attack", "victim", "defense"))
    if NO_ATTACK in defenses:
        defenses.insert(0, defenses.pop(defenses.index(NO_ATTACK)))
    groups: defaultdict[tuple[int, int, int], list[Record]] = defaultdict(list)
    at = [{name: place for place, name in enumerate(names)} for names in (attacks, victims, defenses)]
    for record in records:
        groups[at[0][record["attack"]], at[1][record["victim"]], at[2][record["defense"]]].append(record)
    control = at[2].get(NO_ATTACK, -1)
    return [_row(own, groups.get((*group[:2], control), [])) for group, own in sorted(groups.items(), key=lambda item: item[0])]


def _row(own: list[Record], control: list[Record]) -> Record:
    successes, trials = [int(r["successes"]) for r in own], [int(r["trials"]) for r in own]
    hits = sum(bool(r["success"]) for r in own)
    bounds = rate_interval(successes, trials)
    without = {r["setup"]: r["successes"] / r["trials"] for r in control if own is not control}
    changes = [r["successes"] / r["trials"] - without[r["setup"]] for r in own if r["setup"] in without]
    higher, lower, p = sign_test(changes) if changes else (None, None, None)
    known = [r["source_accuracy"] for r in own if r["source_accuracy"] is not None]
    return {
        **{key: own[0][key] for key in ("attack", "victim", "knowledge", "goal", "defense", "sigma")},
        "n": len(own),
        "successes": sum(successes),
        "trials": sum(trials),
        "success_rate": sum(won / tried for won, tried in zip(successes, trials, strict=True)) / len(own),
        "ci_low": bounds.low,
        "ci_high": bounds.high,
        "interval": bounds.method,
        "higher": higher,
        "lower": lower,
        "p_value": p,
        "target_success": hits,
        "benchmark_error": benchmark_error(hits, len(own)),
        "clean_accuracy": sum(r["clean_accuracy"] for r in own) / len(own),
        "source_accuracy": sum(known) / len(known) if known else None,
    }


def write_summary(path: Path, records: list[Record]) -> list[Record]:
    """Write and return the summary rows; a function of the records alone, so that equal runs give equal files."""
    rows = summarize(records)
    write_json(path, rows)
    return rows
