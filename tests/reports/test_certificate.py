"""Pictures, page and words of certificates, from values alone."""

from typing import Any

import numpy as np
import pytest

from poison_and_defend.reports.certificate.figures import budget_map, radius_curves, trade_off
from poison_and_defend.reports.certificate.page import render_certificate
from poison_and_defend.reports.certificate.records import Certificate, Certified
from poison_and_defend.reports.certificate.table import print_certificate
from poison_and_defend.reports.certificate.text import challenge_note, hindsight_note, looks_note, promise, trusted_note
from poison_and_defend.reports.figures import to_png


def record(**changes: Any) -> Certified:
    base: dict[str, Any] = {
        "sigma": 0.25,
        "m": 30,
        "n": 598,
        "models": 1000,
        "selection": 0,
        "images": 4,
        "accuracy": 0.75,
        "voter_accuracy": 0.7,
        "abstained": 0.25,
        "certified_unattacked": 0.5,
        "median_radius": 0.4,
        "largest_radius": 0.9,
        "median_paper_radius": 0.1,
        "largest_paper_radius": 0.2,
        "table": [[0.5, 0.25], [0.25, 0.0]],
        "table_all_images": [[0.25, 0.0], [0.0, 0.0]],
        "table_all_settings": [[0.5, 0.25], [0.25, 0.0]],
        "needed": [[0.55, 0.6], [0.7, 0.8]],
        "trusted_alone": 0.98,
        "looks": 1,
        "seconds": 12.0,
    }
    return Certified.read(base | changes)


def result(*settings: Certified, **changes: Any) -> Certificate:
    rows = [one.to_json() for one in settings or [record()]]
    base: dict[str, Any] = {
        "dataset": "digits",
        "certified": True,
        "void": [],
        "alpha": 0.001,
        "norm": "linf",
        "k": [1, 5],
        "eps": ["8/255", "any"],
        "image_shape": [1, 32, 32],
        "settings": rows,
        "forecasts": [],
        "goal": {"k": 5, "eps": "8/255"},
        "provenance": {},
        "best": [[{"setting": 0, "certified": c} for c in row] for row in rows[0]["table_all_settings"]],
        "ingredients": [{"name": "features", "origin": "trusted", "detail": "trained on <800> images"}],
    }
    return Certificate.read(base | changes)


def arrays(radii: list[float]) -> dict[str, Any]:
    shares = np.linspace(1, 0, 15).reshape(5, 3)
    axes = {"map_k": np.array([1, 2, 5, 10, 29]), "map_radius": np.array([0.1, 1.0, 10.0])}
    return {"radii": np.array(radii), "paper_radii": np.array(radii) / 4, **axes, "map_certified": shares}


def test_curves_fall_at_each_images_radius() -> None:
    figure = radius_curves([(record(), arrays([-1.0, 0.5, 0.5, 2.0]))], "title")
    solid = next(line for line in figure.axes[0].lines if line.get_label() == "sigma 0.25, m 30 of 598")
    x, y = solid.get_xdata(), solid.get_ydata()

    def height(radius: float) -> float:
        # Drawn with where="pre": a value holds from the place before it, excluded, to its own.
        return float(y[np.searchsorted(x, radius)])

    assert [height(r) for r in (0.3, 0.5, 0.6, 2.0)] == [75, 75, 25, 25]
    assert y[-1] == 0


@pytest.mark.parametrize("radii", [[-1.0, -1.0], [0.0, 0.0], [-1.0, 3.0]])
def test_pictures_of_little_or_nothing_certified_are_drawn(radii: list[float]) -> None:
    assert to_png(radius_curves([(record(), arrays(radii)), (record(m=60), arrays(radii))], "title"))[:4] == b"\x89PNG"


def test_the_map_marks_usual_budgets_in_its_own_units() -> None:
    figure = budget_map(record(), arrays([1.0]), result())
    marks = [line.get_xydata()[0].tolist() for line in figure.axes[0].lines if len(line.get_xydata()) == 1]
    assert marks == [pytest.approx([5.98, eps]) for eps in (8, 16, 25.5)]
    texts = " ".join(t.get_text() for t in figure.axes[0].texts)
    assert all(name in texts for name in ("PF", "CP", "BP", "HT", "LC", "WB", "SA"))
    l2 = budget_map(record(), arrays([1.0]), result(norm="l2"))
    assert not [line for line in l2.axes[0].lines if len(line.get_xydata()) == 1]
    flat = arrays([1.0]) | {"map_certified": np.zeros((5, 3))}
    assert to_png(budget_map(record(), flat, result()))[:4] == b"\x89PNG"


def test_the_page_is_whole_and_escapes_what_it_shows() -> None:
    forecast = {"sigma": 0.5, "m": 60, "n": 598, "needed": 0.7, "pilots": 24, "voter_accuracy": 0.9, "seconds_per_model": None}
    forecasts = [forecast | {"models": [100, 1000], "expected": [0.4, 0.8]}]
    shown = result(forecasts=forecasts)
    page = render_certificate(
        "a < b", shown, {"radius": ("c", b"png"), "trade_off": ("d", b"png"), "map": ("e", b"png")}, "x: <y>"
    )
    assert "a &lt; b" in page and "&lt;800&gt;" in page and "<y>" not in page and page.count("base64,") == 3
    assert "above 70.00%" in page and "80.0%" in page and "certified, all images at once" in page and "https://" not in page
    assert to_png(trade_off(shown.forecasts, shown.goal))[:4] == b"\x89PNG"


def test_what_each_number_holds_for_is_said() -> None:
    assert "about one test image and wrong with chance at most 0.001" in promise(result())
    void = result(certified=False, void=["warm start (raw): it saw the set"])
    assert promise(void).startswith("NOT CERTIFIED: warm start (raw)") and "promise nothing" in promise(void)
    assert hindsight_note(result()) == "" and looks_note(result()) == ""
    assert "alpha is divided by 2" in hindsight_note(result(record(), record(sigma=0.5)))
    assert "wrong with chance at most 0.003" in looks_note(result(record(looks=3)))
    assert "wrong with chance at most 0.012" in looks_note(result(record(looks=3, level=0.012)))
    assert looks_note(result(record(), record(sigma=0.5, looks=2))) == ""
    assert "give 98.0% accuracy" in trusted_note(result()) and trusted_note(result(record(trusted_alone=None))) == ""


def test_a_challenge_is_reported_with_what_it_did_undefended() -> None:
    assert challenge_note(result()) == "" == challenge_note(result(record(challenge={"targets": 0, "k": 1, "eps": "8/255"})))
    counts = {"votes_before": [800, 800], "votes_after": [700, 740], "flips": 0, "undefended_flips": 2}
    tried = {"attack": "bullseye_polytope", "k": 5, "eps": "64/255", "targets": 2} | counts
    text = challenge_note(result(record(challenge=tried)))
    assert "2 certified images" in text and "0 votes flipped" in text and "kept 90% of their votes" in text
    assert "reads 2 of them" in text


def test_the_terminal_says_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    print_certificate(result(record(), record(sigma=0.5, m=60)))
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "certified accuracy" in printed
        and "50.0%" in printed
        and "any change" in printed
        and "alpha is divided by 2" in printed
    )
    print_certificate(result(certified=False, void=["denoiser (unknown): nobody says"]))
    assert "NOT CERTIFIED" in capsys.readouterr().out
