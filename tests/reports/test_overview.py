import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from poison_and_defend.reports.experiment.overview import RunSummary, overview, render_overview
from poison_and_defend.reports.records import Result
from poison_and_defend.reports.summary import summarize


def rows_of(results: list[Result], run: str = "a", **rest: Any) -> list[RunSummary]:
    own = {"run": run, "dataset": "digits", "report": f"../{run}/report.html"} | rest
    return [RunSummary(**own, summary=summary) for summary in summarize(results)]


@pytest.fixture
def rows(results, make_backdoor) -> list[RunSummary]:
    arms = ("no_attack", "none", "diffusion")
    backdoor = [make_backdoor(s, arm, victim=v) for s in range(2) for v in ("convnet", "vgg11") for arm in arms]
    return rows_of(results) + rows_of(backdoor, "b")


def test_every_row_has_a_bar_with_its_interval_within_its_group(rows) -> None:
    success, accuracy = overview(rows).axes
    labels = [text.get_text() for text in success.get_yticklabels()]
    assert labels == ["bullseye polytope\nconvnet", "hidden trigger\nconvnet", "hidden trigger\nvgg11"]
    bars = [bar for bar in success.patches if bar.get_height() > 0]
    assert len(bars) == len(accuracy.patches) == len(rows) == 11
    for axes, key in ((success, "success_rate"), (accuracy, "clean_accuracy")):
        widths = sorted(bar.get_width() for bar in axes.patches)
        assert widths == pytest.approx(sorted(100 * getattr(row.summary, key) for row in rows))
    places = sorted(bar.get_y() + bar.get_height() / 2 for bar in bars)
    assert np.bincount(np.round(places).astype(int)).tolist() == [5, 3, 3]
    # No two bars of a group overlap.
    assert np.diff(places).min() >= bars[0].get_height() - 1e-9


def test_the_legend_names_the_arms_once_no_attack_first(rows) -> None:
    (legend,) = overview(rows).legends
    names = ["no attack", "undefended", "noise only", "denoise only", "JPEG", "noise + denoise"]
    assert [text.get_text() for text in legend.get_texts()] == names


def test_runs_of_the_same_attack_are_told_apart_by_their_names(results) -> None:
    success, _ = overview(rows_of(results, "sigma 1") + rows_of(results, "sigma 2")).axes
    labels = [text.get_text() for text in success.get_yticklabels()]
    assert labels == ["bullseye polytope\nsigma 1", "bullseye polytope\nsigma 2"]


def test_an_unknown_defence_has_a_bar_too(make_result) -> None:
    (legend,) = overview(rows_of([make_result(defense="epic"), make_result()])).legends
    assert [text.get_text() for text in legend.get_texts()] == ["undefended", "epic"]


def test_the_page_has_one_table_with_links_and_escapes_all(rows) -> None:
    evil = '"><script>alert(1)</script>'
    summary = replace(rows[0].summary, attack=evil, victim=evil, knowledge=evil, defense=evil)
    rows[0] = replace(rows[0], dataset=evil, report=evil, summary=summary)
    page = render_overview(evil, rows, b"png")
    assert "<script" not in page
    assert page.count("<table") == 1
    assert len(re.findall("<tr>", page)) == 1 + len(rows)
    assert page.count('href="../a/report.html"') == 4
    assert page.count('href="../b/report.html"') == 6
    assert not re.search(r"https?:|src=\"(?!data:)", page)


def test_a_run_without_a_page_is_not_linked(results) -> None:
    assert "href" not in render_overview("x", rows_of(results, report=""), b"png")
