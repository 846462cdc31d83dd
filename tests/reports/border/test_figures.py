import pytest

from poison_and_defend.reports.border.figures import border_figure, eps_text, ratio_figure
from tests.reports.border.test_cells import a_map, cell

FOUND = a_map(
    cell("no_attack", 8 / 255, 0, 0.0),
    *(cell("oblivious", eps / 255, sigma, rate) for eps, sigma, rate in ((8, 0, 1.0), (8, 0.1, 0.2), (16, 0.1, 0.5))),
    cell("defense", 8 / 255, 0.1, 0.9),
)


def test_every_cell_has_its_number_and_cells_that_were_not_measured_stay_empty() -> None:
    figure = border_figure(FOUND, "head")
    oblivious, knows = figure.axes[0], figure.axes[1]
    assert oblivious.get_title() == "ignores the defence, 25 poisons"
    assert {text.get_position(): text.get_text() for text in oblivious.texts} == {
        (0, 0): "10/10",
        (1, 0): "2/10",
        (1, 1): "5/10",
    }
    assert {text.get_position(): text.get_text() for text in knows.texts} == {(0, 0): "10/10", (1, 0): "9/10"}
    shown = oblivious.images[0].get_array()
    assert shown.mask.tolist() == [[False, False], [True, False]] and shown[1, 1] == pytest.approx(50)
    assert [label.get_text() for label in oblivious.get_yticklabels()] == ["8/255", "16/255"]


def test_ratios_leave_the_undefended_run_out_and_have_a_line_for_each_budget() -> None:
    (field, _) = ratio_figure(FOUND, "head").axes
    eight, sixteen = field.lines
    assert list(eight.get_xdata()) == pytest.approx([8 / 25.5]) and list(eight.get_ydata()) == pytest.approx([20])
    assert list(sixteen.get_xdata()) == pytest.approx([16 / 25.5])


def test_a_budget_is_told_in_levels_where_it_is_of_them() -> None:
    assert [eps_text(eps) for eps in (8 / 255, 0.5)] == ["8/255", "0.5"]
