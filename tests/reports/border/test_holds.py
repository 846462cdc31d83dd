from pathlib import Path

import pytest

from poison_and_defend.core.errors import InputError
from poison_and_defend.reports.border.holds import UNKNOWN, holds_against, holds_conditions, holds_text, print_holds, read_map
from tests.reports.border.test_cells import a_map, cell

ROOT = Path(__file__).resolve().parents[3]

FOUND = a_map(
    *(cell("no_attack", 8 / 255, 0, 0.0, count) for count in (25, 5)),
    *(cell("oblivious", eps / 255, sigma, 0.0, count) for eps in (8, 16) for sigma in (0.1, 0.25) for count in (25, 5)),
    cell("defense", 8 / 255, 0.1, 0.9),
    cell("defense", 16 / 255, 0.1, 1.0),
    cell("defense", 8 / 255, 0.25, 0.1),
    cell("defense", 16 / 255, 0.25, 1.0),
)


def test_budgets_are_told_by_the_noise_that_was_measured_at_or_below() -> None:
    assert holds_text(FOUND, "oblivious", 0.1) == "16/255 or more (25), 16/255 or more (5)"
    assert holds_text(FOUND, "defense", 0.1) == holds_text(FOUND, "defense", 0.2) == "below 8/255 (25), not measured (5)"
    assert holds_text(FOUND, "defense", 0.25) == holds_text(FOUND, "defense", 3.0) == "8/255 (25), not measured (5)"
    assert holds_text(FOUND, "defense", 0.05) == UNKNOWN


def test_a_noise_that_was_not_tried_at_every_budget_says_nothing() -> None:
    part = a_map(*(one for one in FOUND.cells if (one.sigma, one.eps, one.attacker) != (0.25, 16 / 255, "defense")))
    assert holds_text(part, "defense", 0.25) == "below 8/255 (25), not measured (5)"


def test_each_attacker_and_the_conditions_are_told_in_eighty_columns(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_holds(FOUND, [0.1, 0.25])
    shown = capsys.readouterr().out
    assert "... ignores the defence" in shown and "8/255 (25), not measured (5)" in shown
    assert holds_conditions(FOUND) in shown and "10 setups of digits, 25 and 5 poisons" in shown
    assert holds_against(FOUND, 0.25)["defense"] == holds_text(FOUND, "defense", 0.25)


def test_the_map_of_photos_32_is_the_committed_record() -> None:
    packaged = ROOT / "poison_and_defend" / "pretrained" / "photos-32" / "border.json"
    assert packaged.read_bytes() == (ROOT / "docs" / "records" / "photographs_border" / "border.json").read_bytes()
    found = read_map(packaged, "--denoiser")
    assert found.conditions.denoiser == "photos-32"
    assert holds_text(found, "oblivious", 0.1) == "8/255 (25), 32/255 or more (5)"
    assert holds_text(found, "defense", 0.25) == "4/255 (25), 32/255 or more (5)"


def test_a_file_that_is_no_map_is_named(tmp_path) -> None:
    (tmp_path / "border.json").write_text("[]")
    with pytest.raises(InputError, match=r"border\.json.*\(--border\)"):
        read_map(tmp_path / "border.json", "--border")
