import pytest

from poison_and_defend.attacks import BullseyePolytope
from poison_and_defend.cli.commands.border import _with_sigma
from poison_and_defend.cli.options.arms import arms_of
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import read_json
from poison_and_defend.experiment.benchmark import Entry
from poison_and_defend.experiment.border import Border, Case, Grid, run_border
from poison_and_defend.reports.border.cells import Map
from poison_and_defend.training.launch import Launch
from tests.countermeasures import arms

USUAL = {"sigmas": [0.1, 0.25], "budgets": ["8/255", "16/255"], "counts": [25, 5], "attackers": ["oblivious", "defense"]}


def test_who_ignores_the_defence_has_one_experiment_for_all_noise_and_who_knows_it_one_for_each() -> None:
    cases = Grid.of(**USUAL).cases
    assert cases[:2] == (Case("oblivious", "8/255", 25, (0.1, 0.25)), Case("oblivious", "16/255", 25, (0.1, 0.25)))
    assert len(cases) == 4 + 8 and cases[4] == Case("defense", "8/255", 25, (0.1,))
    assert len({case.folder for case in cases}) == 12
    assert cases[4].folder == "defense_8of255_25_sigma_0.1"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sigmas": [0, 0.1]}, r"each is above 0.*\(--sigmas\)"),
        ({"sigmas": [0.1, "0.1"]}, r"name each once \(--sigmas\)"),
        ({"sigmas": [25]}, r"25/255 \(--sigmas\)"),
        ({"budgets": ["8/255", "8/255"]}, r"name each once \(--budgets\)"),
        ({"counts": [0]}, r"counts is 0: it must be at least 1 \(--counts\)"),
        ({"counts": ["few"]}, r"whole number of poisons \(--counts\)"),
        ({"attackers": ["clever"]}, r"attackers are \[clever\]: name some of oblivious.*\(--attackers\)"),
    ],
)
def test_a_grid_that_is_none_is_refused(change, told) -> None:
    with pytest.raises(InputError, match=told):
        Grid.of(**(USUAL | change))


def test_sigma_varies_in_the_one_step_that_noises() -> None:
    (chain,) = arms_of(["diffusion+mixup"]).values()
    steps = _with_sigma(chain, 0.3, "diffusion+mixup")["init_args"]["steps"]
    assert steps[0]["init_args"]["sigma"] == 0.3 and "sigma" not in steps[1].get("init_args", {})
    (template,) = arms_of(["diffusion"]).values()
    assert _with_sigma(template, 0.3, "diffusion") != _with_sigma(template, 0.2, "diffusion")
    for name, count in (("jpeg", 0), ("diffusion+noise_only", 2)):
        (arm,) = arms_of([name]).values()
        with pytest.raises(InputError, match=rf"{count} steps of .* add noise.*\(--defense diffusion\)"):
            _with_sigma(arm, 0.3, name)


def test_a_map_has_both_attackers_and_goes_on_where_it_was(experiment, digits, denoiser_folder, tmp_path, capsys) -> None:
    def entry(case: Case) -> tuple[Case, Entry]:
        names = ["no_attack", "none", "diffusion"] if case.knowledge == "oblivious" else ["diffusion"]
        own = experiment(
            attack=BullseyePolytope("16/255", steps=2),
            arms=arms(names),
            knowledge=case.knowledge,
            known_draws=1,
            sigma=case.sigmas[0],
            denoiser=denoiser_folder,
            name=f"map/{case.folder}",
        )
        return case, Entry(own, "{}")

    cases = Grid.of([0.1], ["16/255"], [5], ["oblivious", "defense"]).cases
    border = Border(tuple(entry(case) for case in cases), "diffusion")
    launch = Launch(accelerator="cpu", devices=1)
    folder = run_border(border, launch, tmp_path / "map")
    written = (folder / "border.json").read_bytes()
    found = Map.from_json(read_json(folder / "border.json", "no map", "--run"), "border.json", "--run")
    told = [(cell.attacker, cell.sigma, cell.n) for cell in found.cells]
    assert told == [("no_attack", 0, 2), ("oblivious", 0, 2), ("oblivious", 0.1, 2), ("defense", 0.1, 2)]
    assert found.conditions.draws == 1 and found.conditions.steps == 2
    poisons = [tmp_path / "map" / case.folder / "poisons" / "setup_000.safetensors" for case in cases]
    assert poisons[0].read_bytes() != poisons[1].read_bytes()
    assert (folder / "figures" / "border_convnet.png").exists() and "eps / sigma" in (folder / "report.html").read_text()
    capsys.readouterr()
    run_border(border, launch, tmp_path / "map")
    assert sum(text.count("nothing is done twice") for text in capsys.readouterr()) == 2
    assert (folder / "border.json").read_bytes() == written
