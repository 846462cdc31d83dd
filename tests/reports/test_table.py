import pytest

from poison_and_defend.reports.experiment.table import print_summary
from poison_and_defend.reports.summary import summarize


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_every_defence_has_a_line_with_its_numbers(results, capsys: pytest.CaptureFixture[str]) -> None:
    rows = summarize(results)
    print_summary(rows, "digits: 4 setups")
    printed = capsys.readouterr().out
    assert printed.startswith("digits: 4 setups")
    for row in rows:
        (line,) = [line for line in printed.splitlines() if f" {row.label} " in line]
        assert f"{row.successes} of 4 = {row.success_rate:.0%}" in line
        assert f"{row.ci_low:.1%} to {row.ci_high:.1%}" in line
        assert "88.50%" in line
        assert ("0.25" in line) == (row.sigma > 0)


@pytest.mark.parametrize("title", ["runs [a] of 4", "runs [/a] of 4"])
def test_brackets_in_a_title_are_printed(results, capsys: pytest.CaptureFixture[str], title: str) -> None:
    print_summary(summarize(results), title)
    assert title in capsys.readouterr().out


def test_attacks_and_victims_have_columns_only_where_there_are_several(make_result, capsys: pytest.CaptureFixture[str]) -> None:
    one = make_result()
    print_summary(summarize([one]), "one")
    assert not {"attack", "victim", "convnet", "bullseye"} & set(capsys.readouterr().out.replace("attack success", "").split())
    print_summary(summarize([one, make_result(victim="vgg11"), make_result(attack="meta_poison")]), "three")
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("victim", "convnet", "vgg11", "bullseye polytope", "meta poison"))


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_backdoor_says_of_how_many_images_and_setups(make_backdoor, capsys, monkeypatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_summary(summarize([make_backdoor(s, successes=s, trials=1000) for s in (300, 400, 500)]), "backdoor")
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert "triggered source class" in " ".join(printed.split())
    assert "3 setups" in " ".join(printed.split())
    if width >= 80:
        assert "40%: 1200 of 3000" in printed
