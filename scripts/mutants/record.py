"""What is kept of a run: counts by file and kind, every survivor, and why those that are accepted may survive."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.mutants.chosen import ROOT, group_of
from scripts.mutants.mutant import Mutant
from scripts.mutants.trial import Verdict, mirror_of

ACCEPTED = Path(__file__).with_name("accepted.json")
"""Mutants that may survive, each with its reason."""

NAMED = ("file", "place", "kind", "before", "after", "number")


def accepted(path: Path = ACCEPTED) -> dict[tuple[Any, ...], str]:
    """Reasons by what names a mutant."""
    return {tuple(entry[name] for name in NAMED): entry["reason"] for entry in json.loads(path.read_text())}


def named(mutant: Mutant) -> tuple[Any, ...]:
    """What names a mutant in the list of those that may survive."""
    return tuple(getattr(mutant, name) for name in NAMED)


def record_of(
    verdicts: Sequence[tuple[Mutant, Verdict]], reasons: Mapping[tuple[Any, ...], str], root: Path = ROOT
) -> dict[str, Any]:
    """What ``docs/records/mutants.json`` holds of a run, besides how it was made."""
    groups: dict[str, Counter[str]] = {}
    files: dict[str, Counter[str]] = {}
    kinds: dict[str, Counter[str]] = {}
    survivors = []
    for mutant, verdict in sorted(verdicts, key=lambda pair: (pair[0].file, pair[0].start, pair[0].after)):
        alive = verdict.outcome in ("survived", "not reached")
        reason = reasons.get(named(mutant), "")
        counts = {"planted": 1, verdict.outcome: 1, "accepted": int(alive and bool(reason))}
        counts["by its own tests"] = int(not alive and verdict.by.startswith(mirror_of(mutant.file)))
        for table, key in ((groups, group_of(mutant.file, root)), (files, mutant.file), (kinds, mutant.kind)):
            table.setdefault(key, Counter()).update(counts)
        if alive:
            statement = " ".join((root / mutant.file).read_text().splitlines()[mutant.line - 1].split())
            survivors.append(
                {name: getattr(mutant, name) for name in NAMED}
                | {"line": mutant.line, "statement": statement, "outcome": verdict.outcome, "reason": reason or "none given"}
            )
    total = sum(groups.values(), Counter())
    return {
        **rates(total), **tidy(total), "groups": {name: rates(own) | tidy(own) for name, own in sorted(groups.items())},
        "files": {name: tidy(own) for name, own in sorted(files.items())},
        "kinds": {name: tidy(own) for name, own in sorted(kinds.items())},
        "survivors": survivors,
    }  # fmt: skip


def tidy(counts: Counter[str]) -> dict[str, int]:
    """Counts that are not 0, in one order."""
    order = ("planted", "killed", "timed out", "survived", "not reached", "accepted", "by its own tests")
    return {name: counts[name] for name in order if counts[name]}


def rates(counts: Counter[str]) -> dict[str, float]:
    """Share of all that are noticed, and of those that are not accepted."""
    noticed, planted = counts["killed"] + counts["timed out"], counts["planted"]
    return {
        "kill_rate": round(noticed / max(1, planted), 4),
        "kill_rate_without_accepted": round(noticed / max(1, planted - counts["accepted"]), 4),
    }
