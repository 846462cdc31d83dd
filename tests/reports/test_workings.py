import pytest

from poison_and_defend.reports.experiment.table import print_workings
from poison_and_defend.reports.experiment.workings import HEAD, workings


@pytest.fixture
def rows(make_result) -> list[list[str]]:
    results = []
    for setup in range(2):
        results += [
            make_result(setup, "none", seconds=2.0),
            make_result(setup, "jpeg", seconds=2.0),
            make_result(
                setup, "filter", seconds=4.0, told="25 poisons of a class at most", auroc=0.5 + setup / 4, poisons_dropped=0.8,
                clean_dropped=0.1 + setup / 10,
            ),
            make_result(setup, "mixup", seconds=3.0, recipe="mixup"),
            make_result(
                setup, "vote", seconds=20.0, models=10, certified={"1": 0.9, "2": 0.5 + setup / 10, "5": 0.0, "10": 0.0}
            ),
            make_result(setup, "both", seconds=20.0, models=10, clean_dropped=0.1, unproved="filter looked at the whole set"),
        ]  # fmt: skip
    return workings(results)


def test_arms_that_did_more_than_rewrite_have_a_row(rows: list[list[str]]) -> None:
    assert [dict(zip(HEAD, row, strict=True)) for row in rows] == [
        {
            "arm": "filter", "told": "25 poisons of a class at most", "AUROC": "0.625", "poisons dropped": "80.0%",
            "other rows dropped": "15.0%", "models": "1", "cost": "2.0 x", "certified": "",
        },
        dict(zip(HEAD, ("mixup", "", "", "", "", "1", "1.5 x", ""), strict=True)),
        dict(zip(HEAD, ("vote", "", "", "", "", "10", "10.0 x", "90% at 1, 55% at 2, 0% at 5"), strict=True)),
        dict(zip(HEAD, ("both", "", "", "", "10.0%", "10", "10.0 x", "refused: filter looked at the whole set"), strict=True)),
    ]  # fmt: skip


def test_what_was_refused_is_said_below_the_table(rows: list[list[str]], capsys) -> None:
    print_workings(rows)
    printed = " ".join(capsys.readouterr().out.split())
    assert "both: refused: filter looked at the whole set" in printed and "0.625" in printed
    print_workings([])
    assert capsys.readouterr().out == ""


def test_cost_needs_an_undefended_run(make_result) -> None:
    (row,) = workings([make_result(0, "mixup", seconds=3.0, recipe="mixup")])
    assert row[HEAD.index("cost")] == ""
