import json
from dataclasses import replace
from typing import Any

import pytest
import yaml

from poison_and_defend.cli.options.configs import CONFIGS
from poison_and_defend.reports.records import Result, read_results
from scripts.countermeasure_settings import OPEN, chosen, other_setups, write_arms
from scripts.tables.reading import RECORDS, read

ONE = read_results(RECORDS / "countermeasures_digits" / "results.jsonl")[0]


def result(defense: str, successes: int, accuracy: float, certified: dict[str, float]) -> Result:
    return replace(ONE, defense=defense, successes=successes, clean_accuracy=accuracy, certified=certified)


def everything(**special: Any) -> list[Result]:
    """Two setups in which all candidates do the same but for those named."""
    found = [result(arm, misread, 0.8, {}) for arm, misread in (("no_attack", 0), ("none", 1)) for _ in range(2)]
    for name, one in OPEN.items():
        for number in range(len(one.candidates())):
            misread, accuracy, share = special.get(f"{name}_{number}", (1, 0.5 if one.vote else 0.72, 0.1))
            certified = {"1": share, "5": share / 2} if one.vote else {}
            for _ in range(2):
                found += [
                    result(f"{name}-{number}", misread, 0.1, {}),
                    result(f"{name}-{number}-clean", 0, accuracy, certified),
                ]
    return found


def test_a_recipe_is_chosen_by_success_among_what_is_accurate_enough_on_all_data() -> None:
    # The first saves all and is too inaccurate on digits, the second saves some on photographs, the third is more accurate.
    photographs = everything(dp_sgd_0=(0, 0.79, 0), dp_sgd_1=(0, 0.71, 0), dp_sgd_2=(1, 0.8, 0), epic_2=(1, 0.75, 0))
    found = chosen({"photographs": photographs, "digits": everything(dp_sgd_0=(0, 0.69, 0))})["countermeasures"]
    assert found["dp_sgd"]["chosen"] == {"noise": 0.3}
    # Equal successes: the most accurate.
    assert found["epic"]["chosen"] == {"share": 0.3}
    assert found["dp_sgd"]["candidates"][1] == {
        "values": {"noise": 0.3},
        "photographs": {"successes": 0, "accuracy": 0.71},
        "digits": {"successes": 2, "accuracy": 0.72},
    }


def test_a_vote_is_chosen_by_what_it_proves_on_both_whatever_the_attack_did() -> None:
    photographs = everything(bagging_0=(0, 0.9, 0.2), bagging_1=(1, 0.3, 0.25), kernel_11=(1, 0.2, 0.12))
    found = chosen({"photographs": photographs, "digits": everything(bagging_0=(0, 0.9, 0.2))})["countermeasures"]
    assert found["bagging"]["chosen"] == {"size": 10}
    assert found["kernel"]["chosen"] == {"radius": 0.6, "width": 0.1}
    assert found["bagging"]["candidates"][1]["photographs"]["certified"] == {"1": 0.25, "5": 0.125}


def test_every_candidate_has_a_file_with_poisons_and_without(tmp_path) -> None:
    files = write_arms(tmp_path)
    assert len(files) == 2 * sum(len(one.candidates()) for one in OPEN.values())
    content = yaml.safe_load((tmp_path / "bagging-3-clean.yaml").read_text())
    step = {"class_path": "Bagging", "init_args": {"models": 100, "size": 100}}
    assert content == {"class_path": "Chain", "init_args": {"attacked": False, "steps": [step]}}


def test_the_setups_are_none_that_a_table_uses(tmp_path) -> None:
    path = tmp_path / "benchmark.json"
    path.write_text(json.dumps({"licence": "MIT", "setups": list(range(100))}))
    kept = json.loads(other_setups(path, tmp_path / "work").read_text())
    assert kept == {"licence": "MIT", "setups": list(range(80, 100))}


@pytest.mark.parametrize("name", OPEN)
def test_presets_have_what_was_chosen(name: str) -> None:
    own = read("countermeasure_settings.json")["countermeasures"][name]
    preset = yaml.safe_load((CONFIGS / "defense" / f"{'epic_transfer' if name == 'epic' else name}.yaml").read_text())
    assert preset["class_path"] == OPEN[name].name
    given = preset["init_args"]
    assert {option: given[option] for option in own["chosen"]} == own["chosen"]
    assert {option: given[option] for option in own["fixed"]} == own["fixed"]
    assert [candidate["values"] for candidate in own["candidates"]] == OPEN[name].candidates()
