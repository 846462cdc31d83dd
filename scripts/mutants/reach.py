"""Which tests run which lines: measured once for each file of tests, and kept until that file or a source changes."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.mutants.chosen import ROOT
from scripts.mutants.forked import run_forked

LIMIT = 900.0
"""Seconds for one file of tests."""


@dataclass(eq=False)
class Reach:
    """What the tests of all files run.

    Attributes:
        seconds: By test.
        lines: By test and source the lines that it runs itself.
        shared: By file of tests and source the lines that are run for all its tests: on import, and by fixtures.
        failed: Tests that fail without any fault; they are not asked.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[str, set[int]]] = field(default_factory=dict)
    shared: dict[str, dict[str, set[int]]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def add(self, tests: str, found: dict[str, Any]) -> None:
        """Take what was measured of one file of tests."""
        self.seconds |= {test: seconds for test, seconds in found["seconds"].items() if test not in found["failed"]}
        self.failed |= set(found["failed"])
        for test, lines in found["lines"].items():
            self.lines[test] = {file: set(own) for file, own in lines.items()}
        self.shared[tests] = {file: set(own) for file, own in found["shared"].items()}

    def tests_of(self, file: str, lines: Iterable[int]) -> list[str]:
        """Tests that run any of a source's lines, those first that do so themselves, and then the fastest."""
        wanted = set(lines)
        direct = {test for test in self.seconds if wanted & self.lines.get(test, {}).get(file, set())}
        through = {tests for tests, own in self.shared.items() if wanted & own.get(file, set())}
        indirect = {test for test in self.seconds if test.partition("::")[0] in through} - direct
        return [test for some in (direct, indirect) for test in sorted(some, key=lambda test: (self.seconds[test], test))]


def measure(tests: Sequence[str], sources: Sequence[str], kept: Path, tell: Callable[[str], None], root: Path = ROOT) -> Reach:
    """Measure every file of tests that has not been measured as it is.

    Args:
        tests: Files of tests, relative to the repository.
        sources: Files whose lines count.
        kept: Folder for what is measured.
        tell: Told of each file before it is run.
        root: The repository.
    """
    kept.mkdir(parents=True, exist_ok=True)
    helpers = sorted(path for path in (root / "tests").rglob("*.py") if not path.name.startswith("test_"))
    common = digest_of([root / source for source in sources] + helpers)
    reach = Reach()
    for file in tests:
        name = hashlib.sha256(f"{common}{file}{digest_of([root / file])}".encode()).hexdigest()[:24]
        path = kept / f"{name}.json"
        if not path.exists():
            tell(file)
            status = run_forked(lambda file=file, path=path: _measure(file, sources, path, root), LIMIT, kept / "output.txt")  # type: ignore[misc]
            if not path.exists():
                raise SystemExit(f"{file} cannot be measured (status {status}): {(kept / 'output.txt').read_text()[-2000:]}")
        reach.add(file, json.loads(path.read_text()))
    return reach


def digest_of(paths: Iterable[Path]) -> str:
    """Of names and contents."""
    found = hashlib.sha256()
    for path in paths:
        found.update(str(path).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def _measure(tests: str, sources: Sequence[str], path: Path, root: Path) -> int:
    """Run one file of tests under coverage; in a fork."""
    import pytest
    from coverage import Coverage

    coverage = Coverage(data_file=None, config_file=False, include=[str(root / source) for source in sources], messages=False)
    watching = _Watching(coverage.switch_context)
    coverage.start()
    watching.begin()
    status = int(pytest.main([*ARGUMENTS, tests], plugins=[watching]))
    coverage.stop()
    if status not in (0, 1, 5):
        return status
    data = coverage.get_data()
    lines: dict[str, dict[str, list[int]]] = {}
    for context in data.measured_contexts():
        data.set_query_context(context)
        own = {str(Path(file).relative_to(root)): sorted(data.lines(file) or ()) for file in data.measured_files()}
        lines[context] = {file: found for file, found in own.items() if found}
    shared = lines.pop(_SHARED, {})
    for file, found in lines.pop("", {}).items():
        shared[file] = sorted({*shared.get(file, ()), *found})
    content = {"seconds": watching.seconds, "failed": sorted(watching.failed), "lines": lines, "shared": shared}
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(content))
    os.replace(draft, path)
    return 0


ARGUMENTS = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "--no-header", "--disable-warnings")
_SHARED = "shared"


class _Watching:
    """A pytest plugin: lines that a fixture runs count for all tests of the file, since it may be made for several."""

    def __init__(self, switch: Callable[[str], object]) -> None:
        self.switch = switch
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    def begin(self) -> None:
        self.switch(_SHARED)

    def pytest_runtest_setup(self, item: Any) -> None:
        self.switch(_SHARED)

    def pytest_runtest_call(self, item: Any) -> None:
        self.switch(item.nodeid)

    def pytest_runtest_teardown(self, item: Any) -> None:
        self.switch(_SHARED)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.skipped:
            return
        self.seconds[report.nodeid] = round(self.seconds.get(report.nodeid, 0.0) + report.duration, 4)
        if report.failed:
            self.failed.add(report.nodeid)
