import pytest

from reports.figures import defense_label
from reports.records import summarize
from reports.table import print_summary


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_every_defence_has_a_line_with_its_numbers(records, capsys: pytest.CaptureFixture[str]) -> None:
    rows = summarize(records)
    print_summary(rows, "digits: 4 setups")
    printed = capsys.readouterr().out
    assert printed.startswith("digits: 4 setups")
    for row in rows:
        (line,) = [line for line in printed.splitlines() if f" {defense_label(row['defense'])} " in line]
        assert f"{row['successes']} of 4 = {row['success_rate']:.0%}" in line
        assert f"{row['ci_low']:.1%} to {row['ci_high']:.1%}" in line
        assert "88.50%" in line
        assert ("0.25" in line) == (row["sigma"] > 0)


@pytest.mark.parametrize("title", ["runs [a] of 4", "runs [/a] of 4"])
def test_brackets_in_a_title_are_printed(records, capsys: pytest.CaptureFixture[str], title: str) -> None:
    print_summary(summarize(records), title)
    assert title in capsys.readouterr().out
