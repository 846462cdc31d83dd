"""Everything that a number depends on is in an experiment's settings, and poisons say what made them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from poison_and_defend.attacks import BullseyePolytope, HiddenTrigger
from poison_and_defend.attacks.threat.trigger import PatchTrigger
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.datamodules import DigitsDataModule, Split
from poison_and_defend.experiment.run import run
from poison_and_defend.experiment.steps.craft import craft_poisons
from poison_and_defend.experiment.steps.pictures import picture_panel
from poison_and_defend.experiment.steps.protect import sanitize_all
from poison_and_defend.experiment.task.claim import claim
from poison_and_defend.poisons.benchmark_files import write_npz
from poison_and_defend.poisons.exchange import to_benchmark
from poison_and_defend.poisons.files import poison_path, save_poisons
from poison_and_defend.training.launch import Launch
from tests.countermeasures import arms
from tests.small_experiments import blank_poisons


class Other(DigitsDataModule):
    """Digits with one thing changed in one of the splits."""

    def __init__(self, name: str, change) -> None:
        super().__init__()
        self.part, self.change = name, change

    def load(self, name) -> Split:
        split = super().load(name)
        return self.change(split) if name == self.part else split


def relabelled(split: Split) -> Split:
    labels = split.labels.clone()
    labels[100:] = labels[100:].roll(1)
    return Split(split.images, labels)


def brighter(split: Split) -> Split:
    images = split.images.clone()
    images[200] = 255 - images[200]
    return Split(images, split.labels)


def normalized(values: float) -> DigitsDataModule:
    data = DigitsDataModule()
    data.mean = (values,)
    return data


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("data", {"data": Other("test", relabelled)}),
        ("data", {"data": Other("train", relabelled), "num_poisons": 1}),
        ("data", {"data": Other("test", brighter)}),
        ("data", {"data": normalized(0.3)}),
        ("public", {"data": Other("public", brighter)}),
        ("public", {"data": Other("public", relabelled)}),
        ("pretraining", {"pretraining": Other("train", relabelled)}),
        ("pretraining", {"pretraining": normalized(0.3)}),
    ],
)
def test_old_results_are_never_shown_for_other_data(plan, monkeypatch, tmp_path: Path, key: str, change) -> None:
    pretraining = {"pretraining": DigitsDataModule()} if key == "pretraining" else {}
    poisons = {"num_poisons": change["num_poisons"]} if "num_poisons" in change else {}
    before = plan(**pretraining, **poisons)
    claim(tmp_path, dict(before.settings))
    claim(tmp_path, dict(plan(**pretraining, **poisons).settings))
    # Setups drawn from other labels would differ too, and hide what is looked for.
    monkeypatch.setattr("poison_and_defend.experiment.task.plan._choose_setups", lambda options, seed: [*before.setups])
    after = plan(**pretraining | poisons | change)
    with pytest.raises(InputError, match=rf"holds an experiment with {key} = .*--name"):
        claim(tmp_path, dict(after.settings))


def test_a_refused_command_leaves_the_configuration_as_it_was(plan, tmp_path: Path) -> None:
    launch = Launch(accelerator="cpu", devices=1)
    run(plan(), launch, "first: 1\n")
    results = (tmp_path / "small" / "results.jsonl").read_bytes()
    with pytest.raises(InputError, match="holds an experiment with data"):
        run(plan(data=normalized(0.3)), launch, "second: 2\n")
    # Given again, whatever its options are called, it is complete: the configuration that made the numbers stays beside them.
    run(plan(), launch, "third: 3\n")
    assert (tmp_path / "small" / "config.yaml").read_text() == "first: 1\n"
    assert (tmp_path / "small" / "results.jsonl").read_bytes() == results


def test_imported_poisons_count_by_their_content(plan, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    for poisons in blank_poisons(plan()):
        write_npz(tmp_path / "made" / f"{poisons.setup.index:03d}.npz", to_benchmark(poisons))
    before = plan(poisons_from=str(tmp_path / "made")).settings["poisons_from"]
    assert before == plan(poisons_from=str(tmp_path / "made")).settings["poisons_from"]
    first = blank_poisons(plan())[0]
    first.images[0, 0, 0, 0] ^= 1
    write_npz(tmp_path / "made" / "000.npz", to_benchmark(first))
    assert before != plan(poisons_from=str(tmp_path / "made")).settings["poisons_from"]


def test_poisons_of_another_attack_data_or_time_are_refused(plan, tmp_path: Path) -> None:
    own = plan(attack=BullseyePolytope("64/255", steps=60))
    other = plan(attack=BullseyePolytope("64/255", steps=10))
    folder = own.folder / "poisons"
    folder.mkdir(parents=True)
    for poisons in blank_poisons(own):
        save_poisons(poisons, folder, {"crafted_with": other.crafted_with})
    for _ in range(2):
        with pytest.raises(InputError, match=r"setup_000\.safetensors was crafted with other settings .*--name"):
            craft_poisons(own, [], Ranks())
        # As poisons were kept before they said what made them.
        for path in folder.glob("*.json"):
            record = json.loads(path.read_text())
            record.pop("crafted_with", None)
            path.write_text(json.dumps(record))
    for poisons in blank_poisons(own):
        save_poisons(poisons, folder, {"crafted_with": own.crafted_with})
    assert len(craft_poisons(own, [], Ranks())) == 2


def test_poisons_serve_any_defence_and_victim(plan) -> None:
    own = plan()
    assert own.crafted_with == plan(arms=arms(["none"]), victims=["patchnet"]).crafted_with
    for change in ({"seed": 1}, {"dropout": 0.1}, {"precision": "bfloat16"}, {"data": normalized(0.3)}, {"num_poisons": 4}):
        assert own.crafted_with != plan(**change).crafted_with, change


_CLAIM = """
import sys, time
from pathlib import Path
from poison_and_defend.experiment.task.claim import claim
from poison_and_defend.core.errors import InputError
folder, own = Path(sys.argv[1]), sys.argv[2]
for turn in range(200):
    (folder / f"{turn}").mkdir(exist_ok=True)
    (folder / f"{turn}-{own}").touch()
    while not all((folder / f"{turn}-{one}").exists() for one in "ab"):
        pass
    try:
        claim(folder / f"{turn}", {"steps": own})
        print(1)
    except InputError:
        print(0)
"""


def test_of_two_experiments_begun_together_one_gets_the_folder(tmp_path: Path) -> None:
    jobs = [
        subprocess.Popen([sys.executable, "-c", _CLAIM, str(tmp_path), own], stdout=subprocess.PIPE, text=True) for own in "ab"
    ]
    one, two = (job.communicate(timeout=100)[0].split() for job in jobs)
    assert len(one) == 200 and all(int(a) + int(b) == 1 for a, b in zip(one, two, strict=True))
    assert {path.name for turn in range(200) for path in (tmp_path / str(turn)).iterdir()} == {"settings.json"}


@pytest.mark.parametrize("count", [1, 5, 9, 12])
def test_pictures_of_few_poisons(plan, denoiser_folder, count: int) -> None:
    own = plan(
        num_poisons=count, arms=arms(["no_attack", "none", "jpeg", "denoise_only", "diffusion"]), denoiser=denoiser_folder
    )
    poisons = blank_poisons(own)
    _, png = picture_panel(own, poisons, sanitize_all(own, poisons, Ranks()))
    assert png.startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 5])
def test_an_experiment_of_few_poisons_runs_to_its_report(plan, denoiser_folder, tmp_path: Path, count: int) -> None:
    own = plan(num_poisons=count, arms=arms(["no_attack", "none", "diffusion"]), denoiser=denoiser_folder)
    (tmp_path / "small").mkdir()
    left = tmp_path / "small" / ".config.yaml.abcdef-1-01234567.partial"
    left.touch()
    os.utime(left, (0, 0))
    folder = run(own, Launch(accelerator="cpu", devices=1), "a: 1\n")
    assert (folder / "report.html").exists() and not left.exists()
    assert {record["num_poisons"] for record in map(json.loads, (folder / "results.jsonl").read_text().splitlines())} == {count}
    assert poison_path(folder / "poisons", 0).exists()


def test_attack_arguments_that_are_lists_tell_runs_apart(plan) -> None:
    attack = BullseyePolytope("64/255", steps=2)
    before = plan(attack=attack).crafted_with
    attack.layers = [1, 2]
    assert plan(attack=attack).crafted_with != before


def test_a_triggers_picture_counts_by_its_content(plan, tmp_path: Path) -> None:
    digests = []
    for value in (0, 255):
        Image.new("L", (8, 8), value).save(tmp_path / "patch.png")
        attack = HiddenTrigger("64/255", trigger=PatchTrigger(image=str(tmp_path / "patch.png"), size=8))
        digests.append(plan(attack=attack).settings["trigger"])
    assert digests[0] != digests[1]
