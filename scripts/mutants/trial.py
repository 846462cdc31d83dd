"""One fault against the tests that run it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scripts.mutants.chosen import ROOT
from scripts.mutants.forked import TIMED_OUT, replace_source, run_forked
from scripts.mutants.mutant import Mutant
from scripts.mutants.reach import ARGUMENTS, Reach

Outcome = Literal["killed", "timed out", "survived", "not reached"]

MOST_SECONDS = 30.0
"""Of tests that one fault is tried against, besides those that mirror its file: the slowest are left out, which can only make
more faults survive."""


LEAST_LIMIT = 40.0
"""Seconds that the fastest test is given before it counts as endless."""


@dataclass(frozen=True)
class Verdict:
    """What became of a fault.

    Attributes:
        outcome: ``not reached`` where no test runs the line.
        by: The test that failed, or that was running when time was up; "" if none.
        seconds: All runs together.
    """

    outcome: Outcome
    by: str
    seconds: float


def mirror_of(file: str) -> str:
    """The file of tests that mirrors a source file."""
    path = Path(file)
    folder = path.parent if path.parts[0] != "poison_and_defend" else Path(*path.parts[1:-1])
    return str(Path("tests") / folder / f"test_{path.name}")


def tried(mutant: Mutant, reach: Reach, scratch: Path, root: Path = ROOT) -> Verdict:
    """Run the tests that reach a fault until one fails: those that mirror its file, then all others, the fastest first."""
    tests = reach.tests_of(mutant.file, range(mutant.lines[0], mutant.lines[1] + 1))
    mirror = mirror_of(mutant.file)
    near = [test for test in tests if test.partition("::")[0] == mirror]
    far, spent = [], 0.0
    for test in tests:
        if test.partition("::")[0] != mirror and (spent := spent + reach.seconds[test]) <= MOST_SECONDS:
            far.append(test)
    source = mutant.planted((root / mutant.file).read_text())
    began = time.monotonic()
    for chosen in (near, far):
        if not chosen:
            continue
        status, by = _run(root / mutant.file, source, chosen, limit_of(chosen, reach), scratch)
        if status != 0:
            outcome: Outcome = "timed out" if status == TIMED_OUT else "killed"
            return Verdict(outcome, by, round(time.monotonic() - began, 2))
    return Verdict("survived" if tests else "not reached", "", round(time.monotonic() - began, 2))


def limit_of(tests: Sequence[str], reach: Reach) -> float:
    """Seconds after which a run hangs for certain: on a shared machine the same tests may take several times as long."""
    return LEAST_LIMIT + 10 * sum(reach.seconds[test] for test in tests)


def _run(file: Path, source: str, tests: Sequence[str], limit: float, scratch: Path) -> tuple[int, str]:
    """Exit status of pytest, and the last test that had not passed."""
    said, output = scratch / "running.txt", scratch / "output.txt"
    said.write_text("")

    def work() -> int:
        import pytest

        replace_source(file, source)
        chosen = _Chosen(tests, said)
        files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        return int(pytest.main([*ARGUMENTS, "-x", "--tb=no", f"--basetemp={scratch / 'tests'}", *files], plugins=[chosen]))

    status = run_forked(work, limit, output)
    # 1: a test failed; 2: a file of tests could not even be imported, 4: nor a conftest; below 0: a signal ended the process.
    if status > 2 and not (status == 4 and "while loading conftest" in output.read_text()):
        raise SystemExit(f"the tests of {file} ended with status {status}: {output.read_text()[-2000:]}")
    return status, said.read_text() or "import"


class _Chosen:
    """A pytest plugin: these tests alone, in this order; tells which one is running."""

    def __init__(self, tests: Sequence[str], said: Path) -> None:
        self.order, self.said = {test: place for place, test in enumerate(tests)}, said

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self.order), key=lambda item: self.order[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.said.write_text(nodeid)
