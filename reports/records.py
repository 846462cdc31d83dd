"""Results as JSON: one line per setup and defence, and a summary with intervals."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from files import write_bytes, write_json

Record = dict[str, Any]


def write_results(path: Path, records: Iterable[Record]) -> None:
    """Write one JSON object a line, all at once."""
    write_bytes(path, "".join(json.dumps(record) + "\n" for record in records).encode())


def read_results(path: Path) -> list[Record]:
    """Read what :func:`write_results` wrote; an absent file holds no results."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def interval(successes: int, trials: int) -> tuple[float, float]:
    """Clopper-Pearson interval of a rate, at 95 % (exact binomial)."""
    bounds = binomtest(successes, trials).proportion_ci(confidence_level=0.95, method="exact")
    return float(bounds.low), float(bounds.high)


def summarize(records: list[Record]) -> list[Record]:
    """Per attack and defence: n, successes, rate with its interval, and mean clean accuracy."""
    rows = []
    for attack, defense in dict.fromkeys((r["attack"], r["defense"]) for r in records):
        own = [r for r in records if (r["attack"], r["defense"]) == (attack, defense)]
        successes = sum(r["success"] for r in own)
        low, high = interval(successes, len(own))
        rows.append(
            {
                "attack": attack,
                "defense": defense,
                "sigma": own[0]["sigma"],
                "n": len(own),
                "successes": successes,
                "success_rate": successes / len(own),
                "ci_low": low,
                "ci_high": high,
                "clean_accuracy": sum(r["clean_accuracy"] for r in own) / len(own),
            }
        )
    return rows


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
