import pytest

from poison_and_defend.reports.border.figures import border_figure, eps_text, frontier_figure, ratio_figure
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


def test_the_frontier_has_accuracy_success_and_sigma_of_every_cell() -> None:
    cells = [
        cell("no_attack", 8 / 255, 0, 0.1, accuracy=0.8),
        cell("oblivious", 8 / 255, 0, 1.0, accuracy=0.75),
        cell("oblivious", 8 / 255, 0.1, 0.2, accuracy=0.7),
        cell("oblivious", 8 / 255, 0.25, 0.0, accuracy=0.5),
        cell("defense", 8 / 255, 0.1, 0.9, accuracy=0.65),
    ]
    (field,) = frontier_figure(a_map(*cells), "head").axes
    ignores, knows, chance, right = field.lines
    assert list(ignores.get_xdata()) == pytest.approx([75, 70, 50]) and list(ignores.get_ydata()) == pytest.approx([100, 20, 0])
    assert list(knows.get_xdata()) == pytest.approx([75, 65]) and list(knows.get_ydata()) == pytest.approx([100, 90])
    assert list(chance.get_ydata()) == pytest.approx([10, 10]) and list(right.get_xdata()) == pytest.approx([80, 80])
    assert [text.get_text() for text in field.texts] == ["0", "0.1", "0.25", "0", "0.1"]
    assert [text.get_text() for text in field.get_legend().get_texts()] == ["ignores the defence", "knows the defence"]


def test_a_budget_is_told_in_levels_where_it_is_of_them() -> None:
    assert [eps_text(eps) for eps in (8 / 255, 0.5)] == ["8/255", "0.5"]
