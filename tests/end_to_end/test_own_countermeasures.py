"""A countermeasure of each kind in files outside the package, named by class path: those of the page."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

from poison_and_defend.datamodules import DigitsDataModule
from tests.docs.reader import blocks_of
from tests.end_to_end.conftest import NO_WANDB
from tests.forked import can_be_forked, forked

pytestmark = pytest.mark.slow

# A vote that writes down which rows it is given: what came before it is what it says.
SPY = """
import os
import numpy as np
from poison_and_defend.defenses import Voting


class Spy(Voting):
    name = "spy"

    def parts(self, keys, labels, num_classes):
        np.save(f"spied-{len(os.listdir('.')):03d}.npy", keys.numpy())
        return [(keys % 2 == part).nonzero()[:, 0] for part in range(2)]
"""
TINY = (
    "--num_setups=2", "--num_poisons=6", "--attack.steps=10", "--feature_recipe.epochs=3", "--victim_recipe.epochs=3",
    "--trainer.accelerator=cpu", "--members_per_block=2",
)  # fmt: skip
ARMS = (
    "none", "my_rewriter.Squeeze", "my_filter.Sphere", "my_recipe.Noisy", "my_vote.Dealt", "my_filter.Sphere+my_vote.Dealt",
    "my_filter.Sphere+spy.Spy",
)  # fmt: skip
CHANGED = ("--arms.Squeeze.bits=2", "--arms.Noisy.level=1", "--arms.Sphere.share=0.2")


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """The command in a folder with the page's files; it does not look there by itself."""
    folder = tmp_path_factory.mktemp("mine")
    for block in blocks_of("extend/defense.md"):
        if block.file is not None and block.file.startswith("my_"):
            (folder / block.file).write_text(block.code)
    (folder / "spy.py").write_text(SPY)
    hidden = ("PYTHONPATH", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_PORT")
    environment = {key: value for key, value in os.environ.items() if key not in hidden} | NO_WANDB | {"OMP_NUM_THREADS": "1"}
    script = Path(sys.executable).parent / "poison-and-defend"

    def run(*arguments: str, status: int = 0) -> str:
        if can_be_forked(arguments):
            ran = forked(arguments, folder, environment, 300)
        else:
            options = {"cwd": folder, "env": environment, "capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
            ran = subprocess.run([script, *arguments], timeout=300, **options)
        assert ran.returncode == status, ran.stderr
        return ran.stdout + ran.stderr

    run.folder = folder
    return run


@pytest.fixture
def in_folder(command, in_process, monkeypatch):
    """The same in this process, for what need not be imported anew."""
    monkeypatch.chdir(command.folder)
    # Which the command lengthens.
    monkeypatch.setattr(sys, "path", sys.path.copy())

    def run(*arguments: str, status: int = 0) -> str:
        ran = in_process(*arguments)
        assert ran.returncode == status, ran.stderr
        return ran.stdout + ran.stderr

    return run


@pytest.fixture(scope="module")
def run(command) -> Path:
    command("poison-and-defend", *TINY, f"--defenses=[{','.join(ARMS)}]", *CHANGED, "--name=one")
    return command.folder / "runs" / "one"


def results(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]


def of_arm(run: Path, arm: str) -> list[dict]:
    found = [line for line in results(run) if line["defense"] == arm]
    assert [line["setup"] for line in found] == [0, 1]
    return found


def poisons(run: Path, setup: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and images of a setup's poisons."""
    tensors = load_file(run / "poisons" / f"setup_{setup:03d}.safetensors")
    return tensors["base_indices"], tensors["poisons"]


def stamps(run: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and times of all that is kept arm by arm, and of poisons."""
    rooms = [run / name for name in ("arms", "verdicts", "stores", "poisons")]
    files = [path for room in rooms for path in sorted(room.rglob("*")) if path.is_file()]
    return {str(path.relative_to(run)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def squeezed(images: np.ndarray, bits: int) -> np.ndarray:
    """The rewriter once more, in NumPy."""
    levels = 2**bits - 1
    return np.rint(np.rint(images.astype(np.float64) * levels / 255) * 255 / levels).astype(np.uint8)


def test_a_rewriters_bytes_are_in_the_stores(run) -> None:
    crafted = np.concatenate([poisons(run, setup)[1] for setup in (0, 1)])
    assert np.array_equal(np.load(run / "stores" / "Squeeze" / "images.npy"), squeezed(crafted, 2))
    (clean,) = (run.parent / "stores").glob("squeeze-*")
    images = DigitsDataModule().split("train").images.numpy()
    assert np.array_equal(np.load(clean / "images.npy"), squeezed(images, 2))
    assert len(np.unique(squeezed(images, 2))) == 4


def test_a_filters_shares_are_those_of_its_verdicts_and_the_poisons(run) -> None:
    for setup, line in enumerate(of_arm(run, "Sphere")):
        verdict = load_file(run / "verdicts" / "Sphere" / "convnet" / "0_sphere" / f"setup_{setup:03d}.safetensors")
        rows, _ = poisons(run, setup)
        truth = np.isin(np.arange(len(verdict["kept"])), rows)
        assert truth.sum() == 6 and len(truth) == len(DigitsDataModule().split("train"))
        assert line["auroc"] == pytest.approx(roc_auc_score(truth, verdict["scores"]), abs=1e-6)
        assert line["poisons_dropped"] == pytest.approx(1 - verdict["kept"][truth].mean(), abs=1e-6)
        assert line["clean_dropped"] == pytest.approx(1 - verdict["kept"][~truth].mean(), abs=1e-6)
        assert 0.15 < line["clean_dropped"] < 0.25
        assert line.get("told", "") == ""


def test_what_follows_a_filter_gets_the_rows_that_are_left(run, command) -> None:
    spied = {tuple(np.load(path).tolist()) for path in command.folder.glob("spied-*.npy")}
    kept = set()
    for setup in (0, 1):
        folder = run / "verdicts" / "Sphere+Spy" / "convnet" / "0_sphere"
        kept.add(tuple(load_file(folder / f"setup_{setup:03d}.safetensors")["kept"].nonzero()[0].tolist()))
    assert kept and kept <= spied
    assert all(len(rows) < len(DigitsDataModule().split("train")) for rows in spied)


def test_a_recipe_changes_the_victims(run) -> None:
    for plain, noisy in zip(of_arm(run, "none"), of_arm(run, "Noisy"), strict=True):
        assert noisy["clean_accuracy"] != plain["clean_accuracy"]
        assert noisy["recipe"] == "noisy" and "recipe" not in plain


def test_a_vote_is_certified_and_behind_a_filter_it_is_not(run) -> None:
    for line in of_arm(run, "Dealt"):
        assert line["models"] == 5 and 0 <= line["withstands"] <= 2 and "unproved" not in line
        shares = [share for _, share in sorted(line["certified"].items(), key=lambda one: int(one[0]))]
        assert shares and sorted([line["clean_accuracy"], *shares], reverse=True) == [line["clean_accuracy"], *shares]
        assert shares[0] > 0
    for line in of_arm(run, "Sphere+Dealt"):
        assert line["models"] == 5 and "sphere looked at the whole set" in line["unproved"]
        assert "withstands" not in line and "certified" not in line
    for line in of_arm(run, "Sphere+Spy"):
        assert "withstands" not in line


def test_one_more_arm_computes_that_one_alone(run, in_folder) -> None:
    before = stamps(run)
    told = in_folder("poison-and-defend", *TINY, "--defenses=[none,my_rewriter.Squeeze+my_recipe.Noisy]", "--name=one")
    assert "arms that are missing: Squeeze+Noisy; the others are kept" in told
    after = stamps(run)
    assert {name: after[name] for name in before} == before
    assert any("Squeeze+Noisy" in name for name in set(after) - set(before))
    names = {line["defense"] for line in results(run)}
    assert names == {"none", "Squeeze", "Sphere", "Noisy", "Dealt", "Sphere+Dealt", "Sphere+Spy", "Squeeze+Noisy"}


def test_an_arm_of_the_same_name_with_other_settings_is_refused(run, in_folder) -> None:
    before = stamps(run)
    arguments = (*TINY, "--defenses=[none,my_rewriter.Squeeze]", "--arms.Squeeze.bits=4", "--name=one")
    told = in_folder("poison-and-defend", *arguments, status=2)
    (line,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert (
        "Traceback" not in told
        and line.startswith("error: the arm Squeeze of ")
        and "bits: 2, now 4" in line
        and "--arms.Squeeze_2" in line
    )
    assert stamps(run) == before


def test_a_verdict_that_is_missing_is_made_again_and_no_other(run, command) -> None:
    before = stamps(run)
    shutil.rmtree(run / "arms" / "Sphere")
    folder = run / "verdicts" / "Sphere" / "convnet" / "0_sphere"
    for suffix in (".json", ".safetensors"):
        (folder / "setup_001").with_suffix(suffix).unlink()
    command("poison-and-defend", *TINY, "--defenses=[none,my_filter.Sphere]", "--arms.Sphere.share=0.2", "--name=one")
    after = stamps(run)
    made = {name for name in before if after[name][1] != before[name][1]}
    made_again = {f"verdicts/Sphere/convnet/0_sphere/setup_001{suffix}" for suffix in (".json", ".safetensors")}
    assert made == made_again | {"arms/Sphere/convnet.json"}
    assert all(after[name][0] == before[name][0] for name in made_again)


@pytest.mark.ddp
@pytest.mark.parametrize("scenario", ["transfer", "from_scratch"])
def test_two_ranks_say_what_one_says(command, scenario) -> None:
    attack = ("--attack=witches_brew", "--attack.steps=2", "--attack.restarts=1") if scenario == "from_scratch" else ()
    found = []
    for ranks in (1, 2):
        name = f"{scenario}-{ranks}"
        arms = "--defenses=[none,my_filter.Sphere,my_rewriter.Squeeze+my_vote.Dealt]"
        options = (arms, f"--scenario={scenario}", f"--trainer.devices={ranks}", f"--name={name}")
        command("poison-and-defend", *attack, *TINY, *options)
        run = command.folder / "runs" / name
        kept = {name: content for name, (content, _) in stamps(run).items() if name.startswith("verdicts")}
        lines = [{key: value for key, value in line.items() if key != "seconds"} for line in results(run)]
        found.append((kept, lines))
    assert len(found[0][0]) == 4
    assert found[0] == found[1]


def test_a_benchmark_sanitize_and_a_fit_of_two_ranks_find_the_files(command, in_folder) -> None:
    chain = ("--defenses=[none,my_rewriter.Squeeze+my_recipe.Noisy]", "--arms.Squeeze+Noisy.Squeeze.bits=2")
    in_folder("benchmark", "--attacks=bullseye_polytope", *TINY, *chain, "--name=several")
    lines = results(command.folder / "runs" / "several" / "bullseye_polytope")
    assert {line["defense"] for line in lines} == {"none", "Squeeze+Noisy"}
    images = torch.randint(0, 256, (9, 11, 7, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    np.savez(command.folder / "set.npz", images=images, labels=np.arange(9) % 3)
    in_folder("sanitize", "--data.root=set.npz", "--out=out.npz", "--defense=my_rewriter.Squeeze", "--defense.bits=2")
    with np.load(command.folder / "out.npz") as out:
        assert np.array_equal(out["images"], squeezed(images, 2).transpose(0, 3, 1, 2))
    data = ("--data=DiffusionSanitizeDataModule", "--data.source=DigitsDataModule", "--data.store=own")
    trainer = ("--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.logger=false")
    command("fit", "--model=ClassifierModule", *data, "--data.defense=my_rewriter.Squeeze", "--data.defense.bits=2", *trainer)
    stored = np.load(command.folder / "own" / "images.npy")
    assert np.array_equal(stored, squeezed(DigitsDataModule().split("train").images.numpy(), 2))
