import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from poison_and_defend.reports.border.cells import cells_of
from poison_and_defend.reports.intervals import clopper_pearson, rate_interval
from poison_and_defend.reports.records import read_results
from poison_and_defend.reports.summary import Summary, summarize, write_summary

RECORDS = Path(__file__).parents[2] / "docs" / "records"


def test_summary_counts_per_defence_in_order_of_appearance(results) -> None:
    rows = summarize(results)
    assert [row.defense for row in rows] == ["none", "noise_only", "denoise_only", "jpeg", "diffusion"]
    assert [row.successes for row in rows] == [4, 3, 2, 1, 0]
    for row in rows:
        assert row.n == 4
        assert row.success_rate == row.successes / 4
        assert (row.ci_low, row.ci_high) == clopper_pearson(row.successes, 4)
        assert row.clean_accuracy == pytest.approx(0.885)
        noised = row.defense in ("noise_only", "diffusion")
        assert row.sigma == (0.25 if noised else 0)
        assert row.eps_over_sigma == (pytest.approx(8 / 255 / 0.25) if noised else None)


def test_attacks_are_summarized_apart(make_result) -> None:
    rows = summarize([make_result(0), make_result(0, attack="other", success=False), make_result(1)])
    assert [(row.attack, row.n, row.successes) for row in rows] == [("bullseye_polytope", 2, 2), ("other", 1, 0)]


def test_victims_are_summarized_apart_and_the_arm_without_attack_comes_first(make_result) -> None:
    arms = [(victim, defense) for victim in ("vgg11", "convnet") for defense in ("none", "diffusion", "no_attack")]
    rows = summarize([make_result(s, defense, victim=victim) for s in range(2) for victim, defense in arms])
    order = ("no_attack", "none", "diffusion")
    assert [(row.victim, row.defense) for row in rows] == [(v, d) for v in ("vgg11", "convnet") for d in order]
    assert all(row.n == 2 for row in rows)


def test_a_backdoors_rate_is_the_mean_over_setups_whatever_their_number_of_images(make_backdoor) -> None:
    counts = [(9, 10), (10, 40), (3, 5)]
    (row,) = summarize([make_backdoor(s, successes=won, trials=tried) for s, (won, tried) in enumerate(counts)])
    assert (row.n, row.successes, row.trials, row.goal) == (3, 22, 55, "source")
    assert row.success_rate == pytest.approx((0.9 + 0.25 + 0.6) / 3)
    assert (row.ci_low, row.ci_high, row.interval) == rate_interval([9, 10, 3], [10, 40, 5])
    # Setups 0 and 2 are hit by their first target; few setups take the largest standard error.
    assert (row.target_success, row.benchmark_error) == (2, pytest.approx((0.25 / 3) ** 0.5))


def test_every_arm_is_compared_with_no_attack_setup_by_setup(make_backdoor) -> None:
    won = {"no_attack": [1, 5, 2, 4], "none": [3, 9, 2, 5], "diffusion": [1, 4, 3, 3]}
    arms = [
        make_backdoor(s, name, successes=count)
        for name in ("none", "no_attack", "diffusion")
        for s, count in enumerate(won[name])
    ]
    rows = {row.defense: (row.higher, row.lower, row.p_value) for row in summarize(arms)}
    assert rows == {"no_attack": (None, None, None), "none": (3, 0, 1 / 8), "diffusion": (1, 2, 7 / 8)}


def test_only_setups_that_both_arms_have_are_compared(make_result) -> None:
    control = [make_result(s, "no_attack", False) for s in (0, 2)]
    row = summarize([*control, *(make_result(s) for s in range(3))])[1]
    assert (row.higher, row.lower, row.p_value) == (2, 0, 1 / 4)
    assert summarize([make_result()])[0].p_value is None


def test_source_accuracy_is_a_mean_of_what_is_known(make_result) -> None:
    known, unknown = make_result(0, source_accuracy=0.5), make_result(1, source_accuracy=None)
    assert summarize([known, make_result(2, source_accuracy=0.7), unknown])[0].source_accuracy == pytest.approx(0.6)
    assert summarize([unknown])[0].source_accuracy is None


def _name(path: Path) -> str:
    return str(path.parent.relative_to(RECORDS))


@pytest.mark.parametrize("path", sorted(RECORDS.rglob("results.jsonl")), ids=_name)
def test_a_committed_record_adds_up_to_its_summary(path: Path) -> None:
    summary = json.loads((path.parent / "summary.json").read_text())
    rows = summarize(read_results(path))
    assert [{key: row.to_json()[key] for key in kept} for row, kept in zip(rows, summary, strict=True)] == [
        {key: pytest.approx(value) if isinstance(value, float) else value for key, value in kept.items()} for kept in summary
    ]
    # In the same order; since arms are compared with no attack, the budget over the noise is what is new.
    assert all([key for key in row.to_json() if key in kept] == [*kept] for row, kept in zip(rows, summary, strict=True))
    new = {"eps_over_sigma"}
    assert all({*row.to_json()} - new == {*kept} - new for row, kept in zip(rows, summary, strict=True) if "p_value" in kept)


IN_COMPARISONS = [path for path in sorted(RECORDS.glob("*/*/results.jsonl")) if (path.parents[1] / "summary.json").exists()]
# A map of one cell lies beside its experiment.
IN_MAPS = [
    (path, map_path)
    for path in sorted(RECORDS.rglob("results.jsonl"))
    for map_path in (path.parent / "border.json", path.parents[1] / "border.json")
    if map_path.exists()
]


@pytest.mark.parametrize(("path", "map_path"), IN_MAPS, ids=[_name(path) for path, _ in IN_MAPS])
def test_a_committed_map_holds_the_cells_of_its_experiments(path: Path, map_path: Path) -> None:
    found = json.loads(map_path.read_text())["cells"]
    alone = map_path.parent == path.parent
    (attacker,) = {cell["attacker"] for cell in found if alone or path.parent.name.startswith(f"{cell['attacker']}_")}
    cells = [asdict(cell) for cell in cells_of(path.parent, attacker)]
    assert cells and all(cell in found for cell in cells)


@pytest.mark.parametrize("path", IN_COMPARISONS, ids=_name)
def test_a_committed_comparison_holds_the_rows_of_its_attacks(path: Path) -> None:
    comparison = json.loads((path.parents[1] / "summary.json").read_text())
    own = json.loads((path.parent / "summary.json").read_text())
    rows = [row for row in comparison if row["run"] == path.parent.name]
    assert [{key: row[key] for key in kept} for row, kept in zip(rows, own, strict=True)] == own


def test_the_order_of_records_does_not_change_a_row(results) -> None:
    def by_defense(rows: list[Summary]) -> dict[str, dict[str, Any]]:
        return {row.defense: row.to_json() | {"clean_accuracy": pytest.approx(row.clean_accuracy)} for row in rows}

    assert by_defense(summarize(results[::-1])) == by_defense(summarize(results))


def test_equal_records_give_equal_summary_files(results, tmp_path: Path) -> None:
    paths = tmp_path / "one.json", tmp_path / "two.json"
    rows = [write_summary(path, list(results)) for path in paths]
    assert [row.to_json() for row in rows[0]] == json.loads(paths[0].read_text())
    assert rows[0] == rows[1]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_accuracy_that_is_unknown_stays_unknown(make_result) -> None:
    assert math.isnan(summarize([make_result(clean_accuracy=math.nan)])[0].clean_accuracy)
