import json
import math
from pathlib import Path

import pytest
from scipy import stats

import files
from reports.records import (
    interval,
    package_versions,
    provenance,
    read_results,
    revision,
    summarize,
    write_results,
    write_summary,
)


@pytest.mark.parametrize("trials", [1, 2, 20, 100])
def test_interval_is_clopper_pearson_in_closed_form(trials: int) -> None:
    for successes in {0, 1, trials // 3, trials - 1, trials}:
        low = stats.beta.ppf(0.025, successes, trials - successes + 1) if successes else 0.0
        high = stats.beta.ppf(0.975, successes + 1, trials - successes) if successes < trials else 1.0
        assert interval(successes, trials) == pytest.approx((low, high), abs=1e-9)


def test_interval_covers_the_rate_and_shrinks_with_trials() -> None:
    widths = []
    for trials in (10, 100, 1000):
        low, high = interval(trials // 5, trials)
        assert low < 0.2 < high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)


def test_interval_of_no_success_is_known_by_heart() -> None:
    assert interval(0, 20) == pytest.approx((0, 1 - 0.025 ** (1 / 20)))


def test_summary_counts_per_defence_in_order_of_appearance(records) -> None:
    rows = summarize(records)
    assert [row["defense"] for row in rows] == ["none", "noise_only", "denoise_only", "jpeg", "diffusion"]
    assert [row["successes"] for row in rows] == [4, 3, 2, 1, 0]
    for row in rows:
        assert row["n"] == 4
        assert row["success_rate"] == row["successes"] / 4
        assert (row["ci_low"], row["ci_high"]) == interval(row["successes"], 4)
        assert row["clean_accuracy"] == pytest.approx(0.885)
        assert row["sigma"] == (0.25 if row["defense"] in ("noise_only", "diffusion") else 0)


def test_attacks_are_summarized_apart(make_record) -> None:
    rows = summarize([make_record(0), make_record(0, attack="other", success=False), make_record(1)])
    assert [(row["attack"], row["n"], row["successes"]) for row in rows] == [("bullseye_polytope", 2, 2), ("other", 1, 0)]


def test_the_order_of_records_does_not_change_a_row(records) -> None:
    def by_defense(rows: list[dict]) -> dict[str, dict]:
        return {row["defense"]: row | {"clean_accuracy": pytest.approx(row["clean_accuracy"])} for row in rows}

    assert by_defense(summarize(records[::-1])) == by_defense(summarize(records))


def test_results_are_one_json_object_a_line_and_come_back(records, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write_results(path, records)
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == records == read_results(path)
    assert sorted(tmp_path.iterdir()) == [path]
    assert read_results(tmp_path / "absent.jsonl") == []


def test_an_interrupted_write_leaves_the_old_results(records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.jsonl"
    write_results(path, records[:1])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(files.os, name, killed)
            with pytest.raises(KeyboardInterrupt):
                write_results(path, records)
        assert read_results(path) == records[:1]
        assert sorted(tmp_path.iterdir()) == [path]


def test_equal_records_give_equal_summary_files(records, tmp_path: Path) -> None:
    paths = tmp_path / "one.json", tmp_path / "two.json"
    rows = [write_summary(path, list(records)) for path in paths]
    assert rows[0] == json.loads(paths[0].read_text())
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_result_says_what_made_it() -> None:
    made = provenance("cpu", 3)
    assert made == json.loads(json.dumps(made))
    assert made["hardware"].startswith("3 x ")
    assert made["revision"] == revision() != ""
    assert {"torch", "diffusers", "lightning"} <= set(made["versions"])
    assert "unknown" not in made["versions"].values()
    assert package_versions(["no-such-package-here"]) == {"no-such-package-here": "unknown"}


def test_accuracy_that_is_unknown_stays_unknown(make_record) -> None:
    assert math.isnan(summarize([make_record(clean_accuracy=math.nan)])[0]["clean_accuracy"])
