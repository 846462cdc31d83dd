"""The runner of mutants: what it plants, what it reports, and that it leaves no trace in the sources."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from scripts.mutants.__main__ import refuse_changed
from scripts.mutants.chosen import GROUPS, all_mutants, files_of
from scripts.mutants.ledger import Ledger, version_of
from scripts.mutants.operators import mutants_of
from scripts.mutants.record import ACCEPTED, NAMED, accepted, named, record_of
from scripts.mutants.trial import Verdict, mirror_of
from tests.scripts.small_source import SOURCE

ROOT = Path(__file__).resolve().parents[2]

TESTS = """import pytest
from room.code import counted, covered, unasserted


@pytest.fixture(scope="module")
def made():
    return covered(9)


def test_covered():
    assert covered(4) == -3 and covered(2) == -1
    for refused in (10, 3):
        with pytest.raises(ValueError, match="too much"):
            covered(refused)


def test_what_a_fixture_made(made):
    assert made == -8


def test_unasserted():
    unasserted(2)


def test_counted():
    assert counted(5) == 0
"""

DRIVER = """
import json, sys
import coverage, pytest  # once, and not in every fork
from pathlib import Path
from scripts.mutants import trial
from scripts.mutants.operators import mutants_of
from scripts.mutants.reach import measure
trial.LEAST_LIMIT = 4.0
root, file = Path.cwd(), "room/code.py"
reach = measure(["tests/room/test_code.py"], [file], Path(sys.argv[1]), lambda file: None, root)
assert not reach.failed
found, wanted = {}, set(json.loads(sys.argv[2]))
for mutant in mutants_of(file, (root / file).read_text()):
    name = f"{mutant.place}: {mutant.before} -> {mutant.after}"
    if name in wanted:
        verdict = trial.tried(mutant, reach, Path(sys.argv[1]), root)
        found[name] = (verdict.outcome, verdict.by)
print(json.dumps(found))
"""


KILLED = ["< -> <=", "3 -> 4", "-x -> (x)", "+ -> -", "and -> or", "not x == 3 -> (x == 3)"]
FAULTS = [
    *(f"covered: {fault}" for fault in KILLED), "unasserted: 7 -> 8", "unasserted: * -> /", "unreached: 20 -> 21",
    "counted: x -= 1 -> pass",
]  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def tried(tmp_path_factory) -> dict[str, tuple[str, str]]:
    """Some faults of a small project against its tests, in a process of its own; its files must be as they were."""
    root, kept = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("kept")
    for name, content in {"room/code.py": SOURCE, "tests/room/test_code.py": TESTS, "pytest.ini": "[pytest]\n"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    before = digests(root)
    run = subprocess.run(
        [sys.executable, "-B", "-c", DRIVER, str(kept), json.dumps(FAULTS)], cwd=root,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert digests(root) == before
    return json.loads(run.stdout)


def test_a_fault_that_a_test_asserts_on_is_killed_by_it(tried) -> None:
    for fault in KILLED:
        outcome, by = tried[f"covered: {fault}"]
        assert (outcome, by.partition("::")[0]) == ("killed", "tests/room/test_code.py"), fault


def test_a_fault_that_no_test_asserts_on_survives(tried) -> None:
    assert tried["unasserted: 7 -> 8"] == tried["unasserted: * -> /"] == ["survived", ""]


def test_a_fault_that_no_test_runs_is_told_apart(tried) -> None:
    assert tried["unreached: 20 -> 21"] == ["not reached", ""]


def test_an_endless_loop_is_ended(tried) -> None:
    assert tried["counted: x -= 1 -> pass"] == ["timed out", "tests/room/test_code.py::test_counted"]


def test_what_is_known_holds_while_source_and_killing_test_are_the_same(tmp_path) -> None:
    one, two = mutants_of("room/code.py", SOURCE)[:2]
    versions = {"room/code.py": "1", "tests/test_a.py::test_b": "1"}
    path = tmp_path / "outcomes.jsonl"

    def ledger(tests: str = "1") -> Ledger:
        return Ledger(path, versions.__getitem__, tests)

    killed, survived = Verdict("killed", "tests/test_a.py::test_b", 1.0), Verdict("survived", "", 2.0)
    ledger().add(one, killed)
    ledger().add(two, survived)
    assert (ledger().known(one), ledger().known(two)) == (killed, survived)
    # Other tests may notice what survived; what one noticed stays noticed.
    assert (ledger("2").known(one), ledger("2").known(two)) == (killed, None)
    assert ledger("2").known(two, expected=True) == survived
    versions["tests/test_a.py::test_b"] = "2"
    assert (ledger().known(one), ledger().known(two)) == (None, survived)
    path.write_text(path.read_text()[:-20])
    assert ledger().known(two) is None
    ledger().add(two, survived)
    assert ledger().known(two) == survived
    versions["room/code.py"] = "2"
    assert ledger().known(two) is None


def test_a_test_that_is_gone_has_killed_nothing(tmp_path) -> None:
    assert version_of("tests/test_gone.py::test_a", tmp_path) != version_of("tests/test_gone.py::test_b", tmp_path)


def test_a_test_is_another_when_what_it_stands_on_changes_and_not_when_its_neighbours_do(tmp_path) -> None:
    def version(content: str, test: str = "test_a[1]") -> str:
        (tmp_path / "test_x.py").write_text(content)
        return version_of(f"test_x.py::{test}", tmp_path)

    plain = version("import a\n\nB = 1\n\ndef test_a():\n    assert B\n")
    assert plain == version("import a, c\n\nB = 1\n\ndef test_a():\n    assert B\n\ndef test_d():\n    pass\n")
    assert plain != version("import a\n\nB = 2\n\ndef test_a():\n    assert B\n")
    assert plain != version("import a\n\nB = 1\n\ndef test_a():\n    assert not B\n")


def test_sources_with_changes_are_refused(tmp_path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True, capture_output=True
        )

    (tmp_path / "code.py").write_text("x = 1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    refuse_changed(["code.py"], tmp_path)
    (tmp_path / "code.py").write_text("x = 2\n")
    with pytest.raises(SystemExit, match="not committed"):
        refuse_changed(["code.py"], tmp_path)


def test_rates_count_survivors_and_state_what_is_accepted() -> None:
    found = mutants_of("attacks/base.py", (ROOT / "attacks/base.py").read_text())[:4]
    own = f"{mirror_of('attacks/base.py')}::test_a"
    verdicts = [
        Verdict("killed", own, 1.0),
        Verdict("timed out", "tests/x.py::test_b", 1.0),
        *[Verdict("survived", "", 1.0)] * 2,
    ]
    record = record_of(list(zip(found, verdicts, strict=True)), {named(found[2]): "equal"})
    assert (record["planted"], record["kill_rate"], record["kill_rate_without_accepted"]) == (4, 0.5, 0.6667)
    assert record["by its own tests"] == 1 and record["files"]["attacks/base.py"]["survived"] == 2
    assert [one["reason"] for one in record["survivors"]] == ["equal", "none given"]


def test_tests_mirror_rooms() -> None:
    assert mirror_of("attacks/threat/budget.py") == "tests/attacks/threat/test_budget.py"
    assert mirror_of("poison_and_defend/certification/joint.py") == "tests/certification/test_joint.py"


def test_every_accepted_survivor_is_one_that_can_be_planted_and_has_a_reason() -> None:
    entries = json.loads(ACCEPTED.read_text())
    files = files_of([pattern for patterns in GROUPS.values() for pattern in patterns])
    assert len(files) > 40 and {entry["file"] for entry in entries} <= set(files)
    population = {named(mutant) for mutant in all_mutants(sorted({entry["file"] for entry in entries}))}
    assert len(accepted()) == len(entries), "one is listed twice"
    for entry in entries:
        assert set(entry) == {*NAMED, "reason"} and len(entry["reason"]) > 20
        assert tuple(entry[name] for name in NAMED) in population, f"no such mutant any more: {entry}"


def test_the_committed_record_adds_up() -> None:
    record = json.loads((ROOT / "docs" / "records" / "mutants.json").read_text())
    names = ("planted", "killed", "timed out", "survived", "not reached", "accepted", "by its own tests")
    for table in ("groups", "files", "kinds"):
        total = sum((Counter(own) for own in record[table].values()), Counter())
        assert {name: total[name] for name in names} == {name: record.get(name, 0) for name in names}
    alive = record.get("survived", 0) + record.get("not reached", 0)
    assert len(record["survivors"]) == alive == record["planted"] - record["killed"] - record.get("timed out", 0)
    assert record["kill_rate"] == round(1 - alive / record["planted"], 4)
    assert record["planted"] >= 300 and record["kill_rate"] >= 0.95
