"""Chooses what the presets of countermeasures leave open, on setups that no table uses, for all columns at once.

Bullseye Polytope on features of photographs, on setups 80 to 99 of the public benchmark, where tables have 0 to 19, and on
digits, on 20 setups of seed 1, where tables have seed 0. Each countermeasure is tried with every value of one or two
options, with poisons and without. The rules were written down first:

- Of a recipe: fewest targets misread on both among the values that cost at most ten points of accuracy on each; of equal ones
  the most accurate.
- Of a vote: most test images read right and certified, on average over both and over 1, 2, 5, 10 and 25 changed rows, without
  poisons.

What has authors' values and none left open is not tried. The record says what was chosen; presets must have it, which a test
compares.

    python -m scripts.countermeasure_settings --setups cifar10_transfer_learning.json --work runs --threads 1
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from poison_and_defend.core.files import write_json
from poison_and_defend.reports.provenance import provenance
from poison_and_defend.reports.records import NO_ATTACK, Result, read_results

FIRST, COUNT = 80, 20
MOST_LOST = 0.1
"""Of accuracy without poisons, against undefended victims, that a recipe may cost."""


@dataclass(frozen=True)
class Open:
    """A countermeasure with values to choose from.

    Attributes:
        name: Of its class.
        values: Those of each option that is open.
        fixed: Options that stay as they are.
        vote: Whether it is chosen by what it proves.
    """

    name: str
    values: Mapping[str, tuple[Any, ...]]
    fixed: Mapping[str, Any]
    vote: bool

    def candidates(self) -> list[dict[str, Any]]:
        """Every combination of the open options' values."""
        return [dict(zip(self.values, own, strict=True)) for own in product(*self.values.values())]


OPEN = {
    "dp_sgd": Open("DPSGD", {"noise": (0.1, 0.3, 1.0, 3.0)}, {"clip": 1.0}, vote=False),
    "gradient_shaping": Open("GradientShaping", {"noise": (1e-4, 1e-3, 1e-2)}, {"clip": 1.0}, vote=False),
    "epic": Open("Epic", {"share": (0.1, 0.2, 0.3)}, {"start": 0, "every": 1}, vote=False),
    "partition": Open("Partition", {"parts": (5, 10, 20, 40)}, {}, vote=True),
    "finite_aggregation": Open("FiniteAggregation", {"parts": (5, 10, 20), "spread": (4,)}, {}, vote=True),
    "run_off": Open("RunOff", {"parts": (5, 10, 20, 40)}, {}, vote=True),
    "bagging": Open("Bagging", {"size": (10, 25, 50, 100)}, {"models": 100}, vote=True),
    "neighbours": Open("Neighbours", {"radius": (0.45, 0.5, 0.55, 0.6)}, {}, vote=True),
    "kernel": Open("Kernel", {"radius": (0.45, 0.5, 0.55, 0.6), "width": (0.02, 0.05, 0.1)}, {}, vote=True),
    "hybrid": Open("Hybrid", {"parts": (10, 25, 50, 100)}, {"trusted": 100}, vote=True),
}


def main() -> None:
    """Run both comparisons, where they are not kept yet, and write what follows from them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setups", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/records/countermeasure_settings.json"))
    args = parser.parse_args()
    folder = args.work / "countermeasure_settings"
    arms = write_arms(folder / "arms")
    runs = {
        "photographs": [
            "--config", "benchmark/photos_transfer", "--setups", str(other_setups(args.setups, folder)), "--victims", "[lite0]",
            "--attacks", "photos/bullseye_polytope",
        ],
        "digits": ["--attacks", "bullseye_polytope", "--seed", "1"],
    }  # fmt: skip
    found = {}
    for name, own in runs.items():
        command = [
            "benchmark", *own, "--num_setups", str(COUNT), "--threads", str(args.threads),
            "--output_dir", str(args.work), "--name", f"countermeasure_settings/{name}",
            "--defenses", f"[{','.join([NO_ATTACK, 'none', *map(str, arms)])}]",
        ]  # fmt: skip
        subprocess.run([sys.executable, "-m", "poison_and_defend", *command], check=True)
        found[name] = read_results(next((folder / name).glob("*/results.jsonl")))
    record = chosen(found)
    write_json(args.out, {"setups": [FIRST, FIRST + COUNT], "seed": 1, **record, **provenance("cpu", 1)})
    print(json.dumps({name: own["chosen"] for name, own in record["countermeasures"].items()}, indent=1))


def other_setups(path: Path, folder: Path) -> Path:
    """The benchmark's file with the setups that no table uses, and no others."""
    known = json.loads(path.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / "setups.json"
    own.write_text(json.dumps(known | {"setups": known["setups"][FIRST : FIRST + COUNT]}))
    return own


def write_arms(folder: Path) -> list[Path]:
    """A file for every candidate, with poisons and without."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, one in OPEN.items():
        for number, candidate in enumerate(one.candidates()):
            step = {"class_path": one.name, "init_args": {**one.fixed, **candidate}}
            clean = {"class_path": "Chain", "init_args": {"attacked": False, "steps": [step]}}
            for arm, content in ((f"{name}-{number}", step), (f"{name}-{number}-clean", clean)):
                files.append(folder / f"{arm}.yaml")
                files[-1].write_text(yaml.safe_dump(content))
    return files


def chosen(results: Mapping[str, Sequence[Result]]) -> dict[str, Any]:
    """What each countermeasure's candidates did on each data set, and which of them its rule takes."""
    arms: dict[tuple[str, str], list[Result]] = {}
    for data, own in results.items():
        for result in own:
            arms.setdefault((data, result.defense), []).append(result)
    plain = {data: _accuracy(arms[data, NO_ATTACK]) for data in results}
    found: dict[str, Any] = {}
    for name, open_ in OPEN.items():
        rows = []
        for number, candidate in enumerate(open_.candidates()):
            arm = f"{name}-{number}"
            row: dict[str, Any] = {"values": candidate}
            for data in results:
                clean = arms[data, f"{arm}-clean"]
                row[data] = {"successes": _successes(arms[data, arm]), "accuracy": _accuracy(clean)}
                if open_.vote:
                    counts = clean[0].certified
                    row[data]["certified"] = {k: round(fmean(one.certified[k] for one in clean), 4) for k in counts}
            rows.append(row)
        take = _most_certified(rows, plain) if open_.vote else _least_successful(rows, plain)
        found[name] = {"fixed": dict(open_.fixed), "chosen": take["values"], "candidates": rows}
    undefended = {data: _successes(arms[data, "none"]) for data in results}
    return {"n": COUNT, "accuracy": plain, "undefended": undefended, "countermeasures": found}


def _accuracy(own: Sequence[Result]) -> float:
    return round(fmean(one.clean_accuracy for one in own), 4)


def _successes(own: Sequence[Result]) -> int:
    return sum(one.successes for one in own)


def _most_certified(rows: list[dict[str, Any]], plain: Mapping[str, float]) -> dict[str, Any]:
    return max(rows, key=lambda row: fmean(share for data in plain for share in row[data]["certified"].values()))


def _least_successful(rows: list[dict[str, Any]], plain: Mapping[str, float]) -> dict[str, Any]:
    bearable = [row for row in rows if all(row[data]["accuracy"] >= plain[data] - MOST_LOST for data in plain)] or rows

    def order(row: dict[str, Any]) -> tuple[int, float]:
        return sum(row[data]["successes"] for data in plain), -sum(row[data]["accuracy"] for data in plain)

    return min(bearable, key=order)


if __name__ == "__main__":
    main()
