"""What a reader concludes from the table of checks."""

import csv
import json

from poison_and_defend.reports.adaptive_checks import HEAD, Check, conclusion, print_checks, write_checks

PASSED = [Check(number, f"check {number}", "a | b", "c", "pass") for number in range(1, 12)]


def one(number: int, verdict: str) -> Check:
    return Check(number, "it", "that", "", verdict)


def test_one_that_fails_makes_an_attack_weak() -> None:
    assert conclusion(PASSED) == "passes all 11 checks"
    found = conclusion([*PASSED[:3], one(4, "fail"), one(5, "not measured"), one(6, "fail")])
    assert found.startswith("weak: fails 4, 6; not measured: 5; ") and "says nothing of its strength" in found


def test_what_was_not_measured_is_not_passed() -> None:
    assert conclusion([*PASSED[:10], one(11, "not measured")]) == "no check failed: 10 of 11 pass; not measured: 11"
    assert conclusion(PASSED[:2]) == "no check failed: 2 of 11 pass"


def test_table_is_written_three_times_and_printed(tmp_path, capsys) -> None:
    checks = [*PASSED[:2], one(3, "fail")]
    about = {"attack": "frogs", "step_size": None, "held_out_over_optimised": 1.02}
    write_checks(tmp_path, checks, about)
    found = json.loads((tmp_path / "adaptive_checks.json").read_text())
    assert found["conclusion"].startswith("weak: fails 3") and found["checks"][2]["verdict"] == "fail"
    assert found["attack"] == "frogs"
    rows = list(csv.reader((tmp_path / "adaptive_checks.csv").open()))
    assert rows == [list(HEAD), *(list(check.row()) for check in checks)]
    page = (tmp_path / "adaptive_checks.md").read_text()
    assert r"| a \| b |" in page and "held out over optimised: 1.02" in page and "step size" not in page
    assert page.rstrip().endswith("strength**")
    print_checks(checks, about)
    printed = capsys.readouterr().out
    assert "weak: fails 3" in printed and "check 2" in printed
