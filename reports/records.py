"""Results as JSON: one line per setup, victim and defence, and a summary with intervals."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from typing import Any

from files import write_bytes, write_json
from reports.intervals import benchmark_error, rate_interval, sign_test
from reports.labels import NO_ATTACK

Record = dict[str, Any]


def write_results(path: Path, records: Iterable[Record]) -> None:
    """Write one JSON object a line, all at once."""
    write_bytes(path, "".join(json.dumps(record) + "\n" for record in records).encode())


def read_results(path: Path) -> list[Record]:
    """Read what :func:`write_results` wrote, also before there were backdoors; an absent file holds no results."""
    return [_completed(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


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
    :func:`reports.intervals.sign_test`, null elsewhere.
    """
    attacks, victims, defenses = ([*dict.fromkeys(r[key] for r in records)] for key in ("attack", "victim", "defense"))
    if NO_ATTACK in defenses:
        defenses.insert(0, defenses.pop(defenses.index(NO_ATTACK)))
    rows = []
    for attack, victim in product(attacks, victims):
        arms = {
            name: [r for r in records if (r["attack"], r["victim"], r["defense"]) == (attack, victim, name)]
            for name in defenses
        }
        rows += [_row(own, arms.get(NO_ATTACK, [])) for own in arms.values() if own]
    return rows


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


def revision() -> str:
    """The project's git revision, marked if the tree has changes, or its version where there is no repository."""
    root = Path(__file__).resolve().parent.parent
    try:
        name = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=root, capture_output=True, text=True, check=True
        )
        return name.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return package_versions(("poison-and-defend",))["poison-and-defend"]


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Installed versions, ``unknown`` for what is not installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def provenance(device: str, world: int) -> Record:
    """What a result was made with."""
    import torch

    hardware = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine()
    return {
        "revision": revision(),
        "hardware": f"{world} x {hardware}",
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "versions": package_versions(("torch", "torchvision", "lightning", "torchmetrics", "diffusers")),
    }
