import pytest

from poison_and_defend.attacks import BullseyePolytope
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import read_json
from poison_and_defend.experiment.attackers import run_attackers
from poison_and_defend.experiment.benchmark import Entry
from poison_and_defend.training.launch import Launch
from tests.countermeasures import arms

BOTH = ["oblivious", "defense"]


@pytest.fixture
def entry(experiment, denoiser_folder):
    """A small experiment with a defence that can be known."""

    def build(**changes) -> Entry:
        common = {"attack": BullseyePolytope("16/255", steps=3), "denoiser": denoiser_folder, "known_draws": 1}
        shown = {"arms": arms(["no_attack", "none", "diffusion"]), "known_held_out": 0, "name": "both"}
        return Entry(experiment(**(common | shown | changes)), "{}")

    return build


def test_both_attack_the_same_setups_and_stand_in_one_table(entry, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    own = entry()
    folder = run_attackers(own, BOTH, 2, Launch(accelerator="cpu", devices=1))
    records = [read_json(folder / who / "poisons" / "setup_001.json", "none", "--name") for who in BOTH]
    assert records[0]["target_index"] == records[1]["target_index"]
    assert records[0]["crafted_with"] != records[1]["crafted_with"]
    settings = [read_json(folder / who / "settings.json", "none", "--name") for who in BOTH]
    assert [one["attack"]["steps"] for one in settings] == [3, 2] and own.experiment.threat.attack.steps == 3
    assert "known_defense" not in settings[0] and settings[1]["known_defense"]["draws"] == 1
    shown = capsys.readouterr().out
    last = shown[shown.rindex("success of an attacker who") :]
    assert "... ignores the defence" in last and "... knows the defence" in last and last.count("of 2") == 6
    assert {path.name for path in folder.iterdir()} >= {"oblivious", "defense", "report.html", "summary.json"}
    # Nothing is made again.
    run_attackers(entry(), BOTH, 2, Launch(accelerator="cpu", devices=1))
    assert capsys.readouterr().out.count("nothing is done twice") == 2


@pytest.mark.parametrize(
    ("changes", "attackers", "steps", "told"),
    [
        ({}, [], None, r"attackers are \[\]: name some of oblivious.*\(--attackers\)"),
        ({}, ["defense", "defense"], None, r"each once \(--attackers\)"),
        ({}, ["clever"], None, r"attackers are \[clever\].*\(--attackers\)"),
        ({}, BOTH, 0, r"known_steps is 0: it must be at least 1 \(--known_steps\)"),
        ({"knowledge": "defense"}, BOTH, None, r"^knowledge is defense.*\(--attackers"),
        ({"arms": arms(["no_attack", "none"])}, BOTH, None, r"^no arm rewrites images"),
    ],
)
def test_attackers_that_are_none_are_refused_before_anything_is_made(entry, tmp_path, changes, attackers, steps, told) -> None:
    with pytest.raises(InputError, match=told):
        run_attackers(entry(**changes), attackers, steps, Launch(accelerator="cpu", devices=1))
    assert not list(tmp_path.rglob("poisons"))
