import json
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

from poison_and_defend.attacks.threat.budget import Budget
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.core.errors import InputError
from poison_and_defend.poisons.files import save_poisons
from poison_and_defend.reports.experiment.write import write_overview, write_report
from poison_and_defend.reports.records import Result, read_results, write_results
from poison_and_defend.reports.summary import summarize

generator = torch.Generator().manual_seed(0)


def make_run(folder: Path, results: list[Result], setups: int = 4) -> Path:
    (folder / "figures").mkdir(parents=True)
    write_results(folder / "results.jsonl", results)
    for index in range(setups):
        bases = torch.randint(0, 256, (3, 1, 8, 8), generator=generator, dtype=torch.uint8)
        setup = Setup(index, 0, 5, 3, 7, np.arange(3))
        (folder / "poisons").mkdir(exist_ok=True)
        save_poisons(PoisonSet(setup, bases.clone(), bases, bases[0].clone(), Budget("linf", 8 / 255)), folder / "poisons")
    return folder


def save_features(folder: Path, name: str, gap: float, shared: bool = True) -> None:
    classes = np.zeros((2, 4), np.float32), np.tile(np.float32([2, 0, 0, 0]), (2, 1))
    groups = {"base_class": classes[0], "target_class": classes[1], "targets": classes[1][:1]}
    poisons = np.tile(np.float32([2 - 2 * gap, 0, 0, 0]), (3, 1))
    np.savez(folder / "figures" / f"features_{name}.npz", **groups, poisons=poisons, shared=np.array(shared))


def test_a_run_with_nothing_but_results_has_a_report(results, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", results, setups=0)
    (run / "figures").rmdir()
    assert write_report(run) == run / "report.html"
    assert [path.name for path in (run / "figures").iterdir()] == ["comparison.png"]
    assert (run / "report.html").read_text().count("<img") == 1


def test_features_and_at_most_three_sheets_are_shown(results, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", results)
    for name, gap in (("jpeg", 0.25), ("diffusion", 0.75), ("none", 0.125)):
        save_features(run, name, gap)
    page = write_report(run).read_text()
    names = {path.name for path in (run / "figures").glob("*.png")}
    assert names == {"comparison.png", "feature_space.png", "setup_000.png", "setup_001.png", "setup_002.png"}
    assert page.count("<img") == 5
    assert "0.12 (undefended), 0.75 (noise + denoise), 0.25 (JPEG)" in page
    assert "one feature extractor" in page


def test_features_of_several_extractors_are_said_to_be(results, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", results)
    save_features(run, "none", 0.5, shared=False)
    assert "own victim" in write_report(run).read_text()


def test_saved_test_images_are_shown_instead_of_the_target(results, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", results, setups=2)
    write_report(run)
    before = [np.asarray(Image.open(run / "figures" / f"setup_00{n}.png")) for n in range(2)]
    np.savez(run / "figures" / "tested.npz", setup_001=np.zeros((3, 1, 8, 8), np.uint8))
    write_report(run)
    after = [np.asarray(Image.open(run / "figures" / f"setup_00{n}.png")) for n in range(2)]
    np.testing.assert_array_equal(before[0], after[0])
    assert not np.array_equal(before[1], after[1])


def test_a_folder_without_results_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no results.*--run"):
        write_report(tmp_path)


def test_an_overview_joins_runs_and_links_their_pages(results, make_backdoor, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "runs" / "a & b", results, 0)]
    runs += [make_run(tmp_path / "runs" / "c", [make_backdoor(s, victim="vgg11") for s in range(3)], 0)]
    write_report(runs[0])
    page = write_overview(tmp_path / "overviews" / "all", runs)
    assert page == tmp_path / "overviews" / "all" / "report.html"
    rows = json.loads((page.parent / "summary.json").read_text())
    assert [row["run"] for row in rows] == ["a & b"] * 5 + ["c"]
    for row, expected in zip(rows[:5], summarize(read_results(runs[0] / "results.jsonl")), strict=True):
        assert row == {key: row[key] for key in ("run", "dataset", "report")} | expected.to_json()
        assert (page.parent / unquote(row["report"])).resolve() == (runs[0] / "report.html").resolve()
    assert rows[5]["report"] == ""
    assert Image.open(page.parent / "figures" / "overview.png").width > 500
    assert page.read_text().count('href="../../runs/a%20%26%20b/report.html"') == 5


def test_an_overview_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 1 run"):
        write_overview(tmp_path / "all", [])
    with pytest.raises(InputError, match=r"holds no results.*--runs"):
        write_overview(tmp_path / "all", [tmp_path])
