from poison_and_defend.reports.experiment.classes import NOTE, class_table
from poison_and_defend.reports.experiment.page import render_page
from poison_and_defend.reports.experiment.table import print_classes
from poison_and_defend.reports.summary import summarize


def others(make_backdoor, setup: int, label: int, defense: str, successes: int, **rest):
    return make_backdoor(setup, defense, successes, 20, goal="others", adversarial_label=label, **rest)


def test_rates_are_means_over_the_setups_of_a_class(make_backdoor, capsys) -> None:
    counts = {"none": [(4, 3), (4, 5), (0, 20)], "jpeg": [(4, 1), (4, 1), (0, 0)]}
    results = [
        others(make_backdoor, setup, label, defense, won)
        for defense, own in counts.items()
        for setup, (label, won) in enumerate(own)
    ]
    head, rows = class_table(results)
    assert head[:2] == ["class", "setups"] and len(head) == 4
    assert rows == [["0", "1", "100.0%", "0.0%"], ["4", "2", "20.0%", "5.0%"]]
    print_classes(results)
    printed = " ".join(capsys.readouterr().out.split())
    assert "100.0%" in printed and "20.0%" in printed and "adversarial class" in printed
    page = render_page("x", summarize(results), results, [], "", {})
    assert "Every adversarial class" in page and NOTE in page and '<td class="number">20.0%</td>' in page


def test_victims_have_rows_of_their_own_and_what_is_missing_stays_empty(make_backdoor) -> None:
    results = [
        others(make_backdoor, 0, 1, "none", 10),
        others(make_backdoor, 1, 2, "none", 20),
        others(make_backdoor, 1, 2, "none", 5, victim="vgg11"),
        others(make_backdoor, 1, 2, "jpeg", 0, victim="vgg11"),
    ]
    head, rows = class_table(results)
    assert head[:3] == ["class", "victim", "setups"]
    assert rows == [
        ["1", "convnet", "1", "50.0%", ""],
        ["2", "convnet", "1", "100.0%", ""],
        ["2", "vgg11", "1", "25.0%", "0.0%"],
    ]


def test_nothing_is_said_of_one_class_or_of_other_goals(make_backdoor, make_result, capsys) -> None:
    one = [others(make_backdoor, setup, 3, "none", 4) for setup in range(3)]
    source = [make_backdoor(setup, adversarial_label=setup) for setup in range(3)]
    targets = [make_result(setup, adversarial_label=setup) for setup in range(3)]
    for results in (one, source, targets):
        assert class_table(results) == ([], [])
        print_classes(results)
        assert "adversarial class" not in render_page("x", summarize(results), results, [], "", {})
    assert capsys.readouterr().out == ""
