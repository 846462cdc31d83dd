import json
from pathlib import Path

import pytest

from poison_and_defend.core import files
from poison_and_defend.core.errors import InputError
from poison_and_defend.reports.records import read_results, write_results

RECORDS = Path(__file__).parents[2] / "docs" / "records"
PATHS = sorted(RECORDS.rglob("results.jsonl"))
# What a line said before it named its victim, under another name.
FORMER = {"backbone"}
MUST = ("dataset", "attack", "defense", "norm", "eps", "sigma", "setup", "target_index", "target_label", "adversarial_label")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.parent.relative_to(RECORDS)))
def test_a_committed_record_that_is_read_says_what_it_said(path: Path, tmp_path: Path) -> None:
    results = read_results(path)
    for line, result in zip(path.read_text().splitlines(), results, strict=True):
        written, again = json.loads(line), result.to_json()
        kept = [key for key in written if key not in FORMER]
        assert {key: again[key] for key in kept} == {key: written[key] for key in kept}
        assert [key for key in again if key in written] == kept
    write_results(tmp_path / "again.jsonl", results)
    assert ((tmp_path / "again.jsonl").read_bytes() == path.read_bytes()) == ("trials" in written)
    assert read_results(tmp_path / "again.jsonl") == results


def test_there_are_records_to_check() -> None:
    assert {path.parents[1].name for path in PATHS} >= {"digits_attacks", "cifar10_transfer", "tiny_imagenet_transfer"}


def test_records_kept_before_there_were_backdoors_are_still_read() -> None:
    path = RECORDS / "digits_witches_brew" / "results.jsonl"
    for line, new in zip(path.read_text().splitlines(), read_results(path), strict=True):
        old = json.loads(line)
        assert "trials" not in old
        assert (new.victim, new.trials, new.successes) == (old["backbone"], 1, int(old["success"]))
        assert (new.goal, new.visible_trigger, new.source_accuracy, new.surrogates) == ("targets", False, None, [])
        assert new.knowledge == {"transfer": "white box", "from_scratch": "grey box"}[old["scenario"]]


def test_results_are_one_json_object_a_line_and_come_back(results, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write_results(path, results)
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [result.to_json() for result in results]
    assert read_results(path) == results
    assert sorted(tmp_path.iterdir()) == [path]
    assert read_results(tmp_path / "absent.jsonl") == []


def test_an_interrupted_write_leaves_the_old_results(results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.jsonl"
    write_results(path, results[:1])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(files.os, name, killed)
            with pytest.raises(KeyboardInterrupt):
                write_results(path, results)
        assert read_results(path) == results[:1]
        assert sorted(tmp_path.iterdir()) == [path]


def test_what_nothing_counts_or_shows_may_be_missing_and_what_is_not_known_is_passed_over(make_result, tmp_path: Path) -> None:
    rest = ("scenario", "visible_trigger", "objective", "surrogates", "seed", "seconds", "revision")
    own = {key: value for key, value in make_result().to_json().items() if key not in rest}
    (tmp_path / "results.jsonl").write_text(json.dumps(own | {"of_tomorrow": 1}) + "\n")
    (result,) = read_results(tmp_path / "results.jsonl")
    assert {key: value for key, value in result.to_json().items() if key not in rest} == own
    assert [getattr(result, key) for key in rest] == [None, False, None, [], None, None, None]


@pytest.mark.parametrize("key", [*MUST, "num_poisons", "predicted", "clean_accuracy"])
def test_what_is_counted_or_shown_must_be_there(make_result, tmp_path: Path, key: str) -> None:
    lines = [make_result(0).to_json(), make_result(1).to_json()]
    del lines[1][key]
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = rf"results.jsonl, line 2 is damaged or no list of results: it has no field {key} \(--run\)"
    with pytest.raises(InputError, match=said):
        read_results(path)
