"""``python -m scripts.mutants``: plant faults one at a time, run the tests that reach each, and write down what survives."""

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from scripts.mutants.chosen import GROUPS, ROOT, all_mutants, drawn, files_of
from scripts.mutants.forked import warm
from scripts.mutants.ledger import Ledger, version_of
from scripts.mutants.mutant import Mutant
from scripts.mutants.reach import Reach, digest_of, measure
from scripts.mutants.record import accepted, named, record_of
from scripts.mutants.trial import Verdict, tried

KEPT = ROOT / "build" / "mutants"
RECORDS = ROOT / "docs" / "records"
TESTS = (
    "tests/attacks/**/test_*.py", "tests/callbacks/test_*.py", "tests/certification/test_*.py", "tests/defenses/**/test_*.py",
    "tests/experiment/steps/test_*.py", "tests/experiment/task/test_results.py", "tests/reports/test_intervals.py",
    "tests/reports/test_summary.py",
)  # fmt: skip
"""What faults are tried against: the tests of their own rooms. Whole experiments would notice more, and not say where."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 0 if nothing survives but what may."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=420, help="how many faults of all that there are; 0 for all")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument(
        "--files", nargs="*", help="sources, as patterns; by default attacks, defences, certification, evaluation"
    )
    parser.add_argument(
        "--record", nargs="?", const="mutants.json", help="write a file of docs/records, mutants.json unless named"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs found")
    asked = parser.parse_args(arguments)
    every = files_of([pattern for patterns in GROUPS.values() for pattern in patterns])
    files = files_of(asked.files) if asked.files else every
    refuse_changed(files, ROOT)
    mutants = drawn(all_mutants(files), asked.count, asked.seed)
    tests = files_of(TESTS)
    print(f"{len(mutants)} faults in {len({mutant.file for mutant in mutants})} files; {len(tests)} files of tests", flush=True)
    warm()
    reach = measure(tests, every, KEPT / "reach", lambda file: print(f"measure {file}", flush=True))
    for test in sorted(reach.failed):
        print(f"fails without any fault, and is not asked: {test}", flush=True)
    outcomes = KEPT / "outcomes.jsonl"
    if asked.fresh:
        outcomes.unlink(missing_ok=True)
    ledger = Ledger(outcomes, cache(lambda name: version_of(name, ROOT)), digest_of(ROOT / test for test in tests))
    record = record_of(try_all(mutants, reach, ledger), accepted())
    if asked.record:
        chosen = f" --files {' '.join(asked.files)}" if asked.files else ""
        command = f"make mutants ARGS='--count {asked.count} --seed {asked.seed}{chosen}'"
        content = {"command": command, "revision": revision(), **record}
        (RECORDS / asked.record).write_text(json.dumps(content, indent=1) + "\n")
    gaps = [survivor for survivor in record["survivors"] if survivor["reason"].startswith("none")]
    for gap in gaps:
        print(f"{gap['outcome']}: {gap['file']}:{gap['line']} {gap['kind']}: {gap['before']!r} -> {gap['after']!r}")
    noticed, without = record["kill_rate"], record["kill_rate_without_accepted"]
    print(f"{record['planted']} planted, {noticed:.1%} noticed; {without:.1%} without those that may survive")
    return int(bool(gaps))


def try_all(mutants: Sequence[Mutant], reach: Reach, ledger: Ledger) -> list[tuple[Mutant, Verdict]]:
    """Every mutant's verdict, with a bar and the time that is left."""
    from rich.progress import track

    expected = accepted()
    open_ = [mutant for mutant in mutants if ledger.known(mutant, expected=named(mutant) in expected) is None]
    least = sum(
        2 + min((reach.seconds[t] for t in reach.tests_of(m.file, range(m.lines[0], m.lines[1] + 1))), default=0) for m in open_
    )
    print(f"{len(mutants) - len(open_)} known, {len(open_)} to try: at least {least / 60:.0f} min", flush=True)
    scratch = Path(tempfile.mkdtemp(prefix="mutants-"))
    try:
        for mutant in track(open_, "mutants"):
            verdict = tried(mutant, reach, scratch)
            ledger.add(mutant, verdict)
            if verdict.outcome in ("survived", "not reached") and named(mutant) not in expected:
                print(f"{verdict.outcome}: {mutant.file}:{mutant.line} {mutant.before!r} -> {mutant.after!r}", flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    found = [(mutant, ledger.known(mutant, expected=named(mutant) in expected)) for mutant in mutants]
    return [(mutant, verdict) for mutant, verdict in found if verdict is not None]


def revision() -> str:
    """Of the repository."""
    said = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    return said.stdout.strip()


def refuse_changed(files: Sequence[str], root: Path) -> None:
    """Refuse sources that are not committed: a result must belong to a revision."""
    said = subprocess.run(["git", "status", "--porcelain", "--", *files], cwd=root, capture_output=True, text=True, check=True)
    if said.stdout.strip():
        raise SystemExit(f"these sources have changes that are not committed: commit or stash them first\n{said.stdout}")


if __name__ == "__main__":
    raise SystemExit(main())
