import pytest

from poison_and_defend.attacks import BullseyePolytope, PoisonFrogs
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import read_json
from poison_and_defend.experiment.attackers import run_attackers, run_attacks
from poison_and_defend.experiment.benchmark import Entry
from poison_and_defend.reports.records import read_results
from poison_and_defend.reports.summary import summarize
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


def test_several_attacks_stand_beside_each_other_by_attacker(entry, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    launch = Launch(accelerator="cpu", devices=1)
    attacks = {"bullseye": BullseyePolytope("16/255", steps=3), "frogs": PoisonFrogs("8/255", steps=3)}
    own = [entry(attack=attack, name=f"several/{name}") for name, attack in attacks.items()]
    folder = run_attacks(own, BOTH, 2, launch, "several")
    held = {path.parent.name for path in folder.glob("*/results.jsonl")}
    assert held == {"bullseye", "bullseye-defense", "frogs", "frogs-defense"}
    shown = capsys.readouterr().out
    last = shown[shown.rindex("success of an attacker who") :]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in last.splitlines() if "of 2" in line]
    assert [row[:2] for row in rows] == [
        [attack, arm]
        for attack in ("bullseye polytope", "poison frogs")
        for arm in ("no attack", "undefended", "noise + denoise")
    ]
    # Each cell is of its own attacker's record, in this order.
    for attack, name in (("bullseye polytope", "bullseye"), ("poison frogs", "frogs")):
        for column, record in ((2, name), (3, f"{name}-defense")):
            found = {one.defense: one for one in read_results(folder / record / "results.jsonl", "--name")}
            assert len(found) == 3 and {one.attack for one in found.values()} == {attack.replace(" ", "_")}
            counts = [one.successes for one in summarize(read_results(folder / record / "results.jsonl", "--name"))]
            assert [int(row[column].split()[0]) for row in rows if row[0] == attack] == counts
    # What ignores the defence lies where a comparison of attacks alone keeps it, and is not made again.
    run_attacks([entry(attack=attacks["frogs"], name="several/frogs")], ["oblivious"], None, launch, "several")
    assert capsys.readouterr().out.count("nothing is done twice") == 1


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
    with pytest.raises(InputError, match=told):
        run_attacks([entry(name="a"), entry(**changes)], attackers, steps, Launch(accelerator="cpu", devices=1), "both")
    assert not list(tmp_path.rglob("poisons"))
