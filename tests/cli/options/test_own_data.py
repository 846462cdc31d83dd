"""Data sets of a user's own on the command line and in configurations."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from poison_and_defend.cli import main as cli
from poison_and_defend.cli.options.own_data import configured_data, typed_data

OURS = "poison_and_defend.datamodules.OwnDataModule"
MODULE = '''
import lightning as L
import numpy as np
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset


class Narrow(Dataset):
    """Digits of 32 x 24."""

    classes = list("0123456789")

    def __init__(self, split, first=0, batch_size=None):
        digits = load_digits()
        rows = {"train": slice(first, 150), "test": slice(150, 250), "extra": slice(250, 500)}[split]
        self.images = np.kron(digits.images[rows] * 255 / 16, np.ones((4, 4))).astype("uint8")[:, :, 4:28]
        self.labels = digits.target[rows]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, row):
        return self.images[row], self.labels[row]


class Bright(Narrow):
    def __getitem__(self, row):
        return self.images[row] / 100, self.labels[row]


class Chosen(Narrow):
    def __init__(self, rows: str):
        super().__init__(rows)


class Module(L.LightningDataModule):
    def __init__(self, batch_size: int):
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self):
        return DataLoader(Narrow("train"), self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(Narrow("test"), self.hparams.batch_size)
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a module of a name that no other test imports."""
    name = f"own_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--data M.Narrow --seed 1", f"--data {OURS} --data.source M.Narrow --seed 1"),
        ("--data.first=3 --data=M.Narrow", f"--data.arguments.first=3 --data {OURS} --data.source M.Narrow"),
        ("--data M.Narrow --data.mean [0.1]", f"--data {OURS} --data.source M.Narrow --data.mean [0.1]"),
        (
            "--data M.Narrow --data.init_args.first 3 --data.test_arguments.first 2",
            f"--data {OURS} --data.source M.Narrow --data.arguments.first 3 --data.test_arguments.first 2",
        ),
        (
            "--data M.Module --data.batch_size 8",
            f"--data {OURS} --data.source M.Module --data.batch_size 8 --data.arguments.batch_size 8",
        ),
        (
            "--data PoisonedDataModule --data.source M.Narrow --data.source.first 3 --data.poisons x",
            f"--data PoisonedDataModule --data.source {OURS} --data.source.source M.Narrow --data.source.arguments.first 3 "
            "--data.poisons x",
        ),
        ("--pretraining M.Narrow", f"--pretraining {OURS} --pretraining.source M.Narrow"),
        ("--data OwnDataModule --data.source M.Narrow", "--data OwnDataModule --data.source M.Narrow"),
        (f"--data={OURS} --data.source M.Narrow", f"--data={OURS} --data.source M.Narrow"),
        ("--data DigitsDataModule --data.seed 3", "--data DigitsDataModule --data.seed 3"),
        ("--data poison_and_defend.datamodules.DigitsDataModule", "--data poison_and_defend.datamodules.DigitsDataModule"),
    ],
)
def test_a_foreign_class_is_wrapped_and_has_its_own_options_as_arguments(typed, meant, folder):
    assert typed_data(typed.replace("M.", f"{folder}.").split()) == meant.replace("M.", f"{folder}.").split()


def test_a_configuration_says_the_same(folder):
    path = f"{folder}.Narrow"
    wrapped = {"source": path, "mean": [0.1], "arguments": {"first": 3}}
    values = {
        "data": {"class_path": path, "init_args": {"first": 3, "mean": [0.1]}},
        "pretraining": path,
        "source": path,
        "other": {"class_path": path},
    }
    found = configured_data(values, {"data", "pretraining"})
    assert found == {
        "data": {"class_path": OURS, "init_args": wrapped},
        "pretraining": {"class_path": OURS, "init_args": {"source": path, "arguments": {}}},
        "source": path,
        "other": {"class_path": path},
    }
    assert configured_data(found, {"data", "pretraining"}) == found


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            "--data gone_folder.Gone",
            r"gone_folder.Gone cannot be imported: ModuleNotFoundError: No module named 'gone_folder' (--data)",
        ),
        ("--data M.Gone", "has no attribute 'Gone' (--data)"),
        ("--data collections.Counter", "is neither a LightningDataModule nor a torch.utils.data.Dataset with rows (--data)"),
        ("--data M.Bright", "train, row 0 ranges from 0 to 2.39: float images lie in [0, 1]"),
        ("--data M.Chosen", "would be built with {} for training and for testing: say what each split takes"),
        ("--data M.Narrow --data.colour red", "M.Narrow cannot be built with {'split': 'train', 'colour': 'red'}: TypeError"),
        ("--data M.Narrow --data.num_classes 3", "labels range from 0 to 9, outside 0..2"),
        (
            "--data M.Module",
            "cannot be built: TypeError: Module.__init__() missing 1 required positional argument: 'batch_size'",
        ),
    ],
)
@pytest.mark.parametrize("command", ["poison-and-defend", "fit --model ClassifierModule"])
def test_bad_input_is_one_sentence_before_any_training(command, typed, message, folder, tmp_path, capsys):
    before = {path.name for path in tmp_path.iterdir()}
    assert cli.main([*command.split(), *typed.replace("M.", f"{folder}.").split()]) == 2
    # Lightning says besides which seed was set.
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "(--data" in line
    words = (
        "say what each split takes"
        if message == "would be built with {} for training and for testing: say what each split takes"
        else message
    )
    assert words.replace("M.", f"{folder}.") in line
    assert {path.name for path in tmp_path.iterdir()} - before <= {"__pycache__"}


def test_an_experiment_on_images_that_are_not_square_runs_from_the_working_folder(folder, tmp_path):
    command = [
        str(Path(sys.executable).parent / "poison-and-defend"),
        *("poison-and-defend", "--data", f"{folder}.Narrow", "--data.public_arguments.split=extra"),
        *("--defenses=[none,jpeg,noise_only,diffusion,spectral_signatures]", "--num_setups=1", "--num_poisons=3"),
        *("--attack.steps=2", "--feature_recipe.epochs=1", "--victim_recipe.epochs=1", "--wandb_project=null", "--name=own"),
        "--trainer.accelerator=cpu",
    ]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    assert ran.returncode == 0, ran.stderr
    run = tmp_path / "runs" / "own"
    poisons = load_file(next((run / "poisons").glob("setup_*.safetensors")))
    assert {value.shape[-3:] for value in poisons.values() if value.ndim == 4} == {(1, 32, 24)}
    assert any(np.ptp(value.astype(int)) > 100 for value in poisons.values() if value.ndim == 4)
    recorded = yaml.safe_load((run / "config.yaml").read_text())["data"]
    assert recorded["class_path"] == OURS and recorded["init_args"]["source"] == f"{folder}.Narrow"
    assert (run / "report.html").exists() and len((run / "results.jsonl").read_text().splitlines()) == 5
