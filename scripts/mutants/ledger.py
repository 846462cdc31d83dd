"""What became of every fault so far, one line each, so that a run that was stopped goes on."""

import ast
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.mutants.mutant import Mutant
from scripts.mutants.trial import Verdict


class Ledger:
    """A file of JSON lines; a line that a kill cut short counts for nothing.

    Args:
        path: The file; made if it is not there.
        version: Digest of a file or a test as it is now, see :func:`version_of`.
        tests: Digest of all tests.
    """

    def __init__(self, path: Path, version: Callable[[str], str], tests: str) -> None:
        self.path, self.version, self.tests = path, version, tests
        self.lines: dict[str, dict[str, Any]] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            self.lines[entry["key"]] = entry

    def known(self, mutant: Mutant, *, expected: bool = False) -> Verdict | None:
        """What became of it, if that still holds.

        Once killed, it is tried again when its file or the test that killed it has changed; otherwise when any test has.

        Args:
            mutant: Which one.
            expected: Whether it may survive: it takes longest, and is tried again only when its file has changed.
        """
        entry = self.lines.get(mutant.key)
        if entry is None or entry["source"] != self.version(mutant.file):
            return None
        if expected and not entry["by"]:
            return Verdict(entry["outcome"], "", entry["seconds"])
        same = self._version_of_test(entry["by"]) if entry["by"] else self.tests
        return Verdict(entry["outcome"], entry["by"], entry["seconds"]) if entry["tests"] == same else None

    def add(self, mutant: Mutant, verdict: Verdict) -> None:
        """Write a verdict down for good."""
        entry = {
            "key": mutant.key, "file": mutant.file, "line": mutant.line, "outcome": verdict.outcome, "by": verdict.by,
            "seconds": verdict.seconds, "source": self.version(mutant.file),
            "tests": self._version_of_test(verdict.by) if verdict.by else self.tests,
        }  # fmt: skip
        self.lines[mutant.key] = entry
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(entry)
        with open(self.path, "ab+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else f"\n{line}"
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())

    def _version_of_test(self, test: str) -> str:
        # A fault that nothing can be imported with is told from its own file.
        return "" if test == "import" else self.version(test)


def version_of(name: str, root: Path) -> str:
    """Digest of a file, or of what a test of it depends on there: all but imports and the other tests.

    Args:
        name: Path relative to the repository, or the name that pytest gives a test.
        root: The repository.
    """
    file, _, test = name.partition("::")
    content = (root / file).read_text() if (root / file).exists() else "gone"
    if test and content != "gone":
        own = test.partition("[")[0]
        nodes = [node for node in ast.parse(content).body if not isinstance(node, ast.Import | ast.ImportFrom)]
        kept = [node for node in nodes if not getattr(node, "name", "").startswith("test_") or getattr(node, "name", "") == own]
        content = "\n".join(ast.dump(node) for node in kept)
    return hashlib.sha256(f"{name}\0{content}".encode()).hexdigest()
