import base64
import html
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from poison_and_defend.reports.experiment.page import render_page
from poison_and_defend.reports.records import Result
from poison_and_defend.reports.summary import summarize

EVIL = "<script>alert('1')</script> & \"quoted\" <img src=x onerror=y>"
VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Collects tags with their attributes and all text, and checks that every tag is closed by its own end."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def render(results: list[Result], **rest: Any) -> str:
    parts = {"title": "digits", "figures": [("first", b"one"), ("second", b"two")], "config": "sigma: 0.25", "provenance": {}}
    return render_page(**parts | {"summary": summarize(results), "results": results} | rest)


def test_nothing_is_asked_of_the_network(results) -> None:
    page = render(results, provenance={"revision": "abc", "versions": {"torch": "2"}})
    assert not re.search(r"https?:|//\w|<script|<link|<iframe|@import|url\(", page, re.IGNORECASE)
    for _, attributes in Reader(page).tags:
        assert "href" not in attributes
        assert attributes.get("src", "data:").startswith("data:")


def test_all_user_text_is_escaped(make_result) -> None:
    own = [
        make_result(
            attack=EVIL,
            victim=EVIL,
            knowledge=EVIL,
            defense=EVIL,
            predicted=EVIL,
            target_label=EVIL,
            adversarial_label=EVIL,
            target_index=EVIL,
        )
    ]
    page = render(own, title=EVIL, figures=[(EVIL, b"png")], config=EVIL, provenance={EVIL: EVIL})
    assert "<script" not in page
    assert "alert('1')" not in page
    reader = Reader(page)
    assert {tag for tag, _ in reader.tags}.isdisjoint({"script"})
    assert [attributes["alt"] for tag, attributes in reader.tags if tag == "img"] == [EVIL]
    # Title twice, victim, knowledge, defence twice, four cells of the setup, caption, configuration.
    assert reader.text.count(EVIL) >= 10
    assert reader.text.count(json.dumps(EVIL)) == 2


def test_figures_are_embedded_whole_and_in_order(results) -> None:
    sources = [attributes["src"] for tag, attributes in Reader(render(results)).tags if tag == "img"]
    assert [base64.b64decode(source.partition("base64,")[2]) for source in sources] == [b"one", b"two"]
    page = render(results)
    assert page.index(sources[0]) < page.index("<table") < page.index(sources[1])


def test_every_number_of_the_summary_is_on_the_page(results) -> None:
    text = Reader(render(results)).text
    for row in summarize(results):
        assert f"{row.successes} of 4 = {row.success_rate:.0%}" in text
        assert f"{100 * row.ci_low:.1f}% to {100 * row.ci_high:.1f}%" in text
    assert text.count("88.50%") == 5


def test_an_arm_says_in_how_many_setups_it_is_above_no_attack(make_result) -> None:
    arms = [make_result(s, name, name == "none" and s < 3) for name in ("no_attack", "none") for s in range(4)]
    text = Reader(render(arms)).text
    assert "3 above, 0 below, p 0.125" in text
    assert len(re.findall(r"\d above", text)) == 1
    assert (
        "p < 0.001"
        in Reader(render([make_result(s, name, name == "none") for name in ("no_attack", "none") for s in range(10)])).text
    )


def test_every_setup_has_a_line_that_says_how_its_target_was_read(results) -> None:
    page = render(results)
    lines = re.findall(r"<tr>(.*?)</tr>", page.split("Every setup")[1])[1:]
    assert len(lines) == 4
    for setup, line in enumerate(lines):
        cells = re.findall(r'<td class="(.*?)">(.*?)</td>', line)
        assert [text for _, text in cells[:4]] == [str(setup), str(40 + setup), "3", "7"]
        expected = [("hit", "read as 7") if setup >= number else ("miss", "read as 3") for number in range(5)]
        assert cells[4:] == expected


def test_an_undefended_run_has_no_sigma(results) -> None:
    rows = re.findall(r"<tr>(.*?)</tr>", render(results))
    undefended = next(row for row in rows if "undefended" in row and "<td" in row)
    assert '<td class="number"></td>' in undefended
    noised = next(row for row in rows if "noise + denoise" in row and "<td" in row)
    # The budget of these results is 8/255.
    assert '<td class="number">0.25</td><td class="number">0.13</td>' in noised.replace("\n", "")


def test_configuration_and_provenance_are_shown_verbatim(results) -> None:
    provenance = {"revision": "f00 & bar", "versions": {"torch": "2.14"}}
    page = html.unescape(render(results, config="a: 1\nb: [x, 'y']\n", provenance=provenance))
    assert "<pre>a: 1\nb: [x, 'y']\n</pre>" in page
    assert json.loads(re.findall(r"<pre>(\{.*?)</pre>", page, re.DOTALL)[0]) == provenance


@pytest.mark.parametrize(
    ("rest", "text"),
    [
        ({}, "at most 8/255 (linf)"),
        ({"eps": 1.5, "norm": "l2"}, "at most 1.5 (l2, pixels in [0, 1])"),
        pytest.param({"eps": 0.1}, "25.5/255"),
    ],
)
def test_the_budget_is_stated(make_result, rest: dict[str, Any], text: str) -> None:
    assert text in Reader(render([make_result(**rest)])).text


def test_a_backdoor_counts_triggered_images(make_backdoor) -> None:
    results = [make_backdoor(s, successes=won, trials=20) for s, won in enumerate((4, 10, 19))]
    page = render(results)
    text = Reader(page).text
    assert "triggered test images of the source class" in text
    assert "55%: 33 of 60" in text
    assert "2 of 3 ± 28.9%" in text
    assert "80.00%" in text
    lines = re.findall(r"<tr>(.*?)</tr>", page.split("Every setup")[1])[1:]
    found = [re.findall(r'<td class="(hit|miss)">(.*?)</td>', line) for line in lines]
    assert found == [[("miss", "4 of 20 = 20%")], [("hit", "10 of 20 = 50%")], [("hit", "19 of 20 = 95%")]]


@pytest.mark.parametrize(
    ("rest", "text"),
    [
        ({"trials": 3, "successes": 2}, "3 chosen test images of one class are misread"),
        ({"trials": 9, "goal": "others"}, "test images of any other class are read as"),
        ({"trials": 9, "goal": "source", "visible_trigger": True}, "carry the trigger besides, in each of 1 setups"),
    ],
)
def test_the_goal_is_stated(make_result, rest: dict[str, Any], text: str) -> None:
    assert text in Reader(render([make_result(**rest)])).text


def test_several_victims_have_a_line_each_and_missing_results_stay_empty(make_result) -> None:
    results = [make_result(0, "none", victim="convnet"), make_result(0, "jpeg", victim="convnet")]
    page = render([*results, make_result(0, "none", victim="vgg11", success=False)])
    lines = re.findall(r"<tr>(.*?)</tr>", page.split("Every setup")[1])[1:]
    cells = [[text for _, text in re.findall(r'<td class="(.*?)">(.*?)</td>', line)[4:]] for line in lines]
    assert cells == [["convnet", "read as 7", "read as 7"], ["vgg11", "read as 3", ""]]


def test_unknown_accuracy_on_the_targets_class_is_left_empty(make_result) -> None:
    (row,) = re.findall(r"<tr>(.*?)</tr>", render([make_result(source_accuracy=None)]).split("Every setup")[0])[1:]
    assert row.endswith('<td class="number">90.00%</td><td class="number"></td>')
