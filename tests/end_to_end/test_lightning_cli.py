from pathlib import Path

import pytest
import torch
import yaml

from poison_and_defend.attacks import BullseyePolytope
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.setups import draw_setups
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.poisons.files import save_poisons
from tests.end_to_end.conftest import ROOT

ARGUMENTS = [
    "--model=ClassifierModule",
    "--model.recipe.epochs=4",
    "--data=DiffusionSanitizeDataModule",
    "--data.sigma=0.2",
    "--data.noise_seed=0",
    "--data.source=PoisonedDataModule",
    "--data.source.source=DigitsDataModule",
    "--data.source.source.batch_size=32",
    "--trainer.max_epochs=4",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
]


@pytest.fixture(scope="module")
def poisons(tmp_path_factory) -> Path:
    """Poisons that nobody crafted, which need not work: every dark enough value is nine levels brighter."""
    train, test = (DigitsDataModule().split(name) for name in ("train", "test"))
    (setup,) = draw_setups(train.labels.numpy(), test.labels.numpy(), num_setups=1, num_poisons=25, seed=0)
    bases = train.images[torch.from_numpy(setup.base_indices)]
    images = bases + (bases < 200).to(torch.uint8) * 9
    made = PoisonSet(setup, images, bases, test.images[setup.target_index], BullseyePolytope("64/255").budget)
    return save_poisons(made, tmp_path_factory.mktemp("poisons"))


def fit(cli, poisons, folder, *more):
    return cli(
        "fit",
        *ARGUMENTS,
        f"--data.store={folder / 'store'}",
        f"--data.source.poisons={poisons}",
        f"--trainer.default_root_dir={folder}",
        *more,
    )


@pytest.fixture(scope="module")
def fitted(cli, poisons, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    logger = ["--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={folder}", "--trainer.logger.name=csv"]
    result = fit(cli, poisons, folder, *logger)
    assert result.returncode == 0, result.stderr
    return folder


def test_fit_sanitizes_first_then_learns_and_watches_the_target(fitted):
    import csv

    assert (fitted / "store" / "manifest.json").exists()
    rows = list(csv.DictReader(next((fitted / "csv").rglob("metrics.csv")).open()))
    accuracies = [float(r["val/accuracy"]) for r in rows if r.get("val/accuracy")]
    watched = [float(r["val/target_misclassification"]) for r in rows if r.get("val/target_misclassification")]
    config = yaml.safe_load(next((fitted / "csv").rglob("config.yaml")).read_text())
    assert config["data"]["init_args"]["sigma"] == 0.2
    assert accuracies[-1] > 0.8 and len(watched) == 4 and set(watched) <= {0.0, 1.0}


def test_nested_datamodules_keep_their_own_arguments(fitted):
    # In Lightning a wrapped datamodule can be given the outer one's hyper-parameters; 598 rows in batches of 32 are 19 steps.
    checkpoint = next(fitted.rglob("*.ckpt"))
    assert "step=76" in checkpoint.name


def test_test_reads_the_checkpoint_and_the_store(in_process, poisons, fitted):
    checkpoint = next(fitted.rglob("*.ckpt"))
    result = in_process(
        "test",
        *ARGUMENTS,
        f"--data.store={fitted / 'store'}",
        f"--data.source.poisons={poisons}",
        f"--ckpt_path={checkpoint}",
        "--trainer.logger=false",
    )
    assert result.returncode == 0, result.stderr
    assert "test/accuracy" in result.stdout and "test/target_misclassification" in result.stdout


@pytest.mark.ddp
@pytest.mark.slow
def test_two_ranks_fill_the_store_before_a_fit_with_the_same_bytes(cli, poisons, fitted, tmp_path):
    result = fit(cli, poisons, tmp_path, "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.logger=false")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "store" / "images.npy").read_bytes() == (fitted / "store" / "images.npy").read_bytes()


def test_sanitize_writes_arrays_with_labels_and_order_kept(in_process, tmp_path):
    import numpy as np

    result = in_process(
        "sanitize", "--data.source=DigitsDataModule", f"--out={tmp_path / 'clean.npz'}", "--sigma=0.1",
        "--trainer.accelerator=cpu",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    arrays, train = np.load(tmp_path / "clean.npz"), DigitsDataModule().split("train")
    assert np.array_equal(arrays["labels"], train.labels.numpy())
    change = np.abs(arrays["images"].astype(int) - train.images.numpy().astype(int)).mean()
    assert 0 < change < 15


CONFIGS = ROOT / "poison_and_defend" / "configs"
# Presets of countermeasures and networks are values of an option, and no configurations.
WHOLE = [path for path in sorted(CONFIGS.rglob("*.yaml")) if path.parent.name not in ("defense", "network")]


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_configuration_is_understood(path, tmp_path, monkeypatch):
    import contextlib
    import io

    import numpy as np

    from poison_and_defend.cli.dispatch import dispatch

    for name in ("train", "test"):
        (tmp_path / "cifar10-jpeg").mkdir(exist_ok=True)
        np.savez(tmp_path / "cifar10-jpeg" / f"{name}.npz", images=np.zeros((2, 32, 32, 3), np.uint8), labels=np.array([0, 9]))
    monkeypatch.setenv("POISON_DATA_ROOT", str(tmp_path))
    commands = {"denoiser": "train-denoiser", "certify": "certify"}
    command = commands.get(path.parent.name, "poison-and-defend")
    if command == "certify" and "networks:" in path.read_text():
        command = "certify-any"
        (tmp_path / ".data" / "tiny-imagenet-200" / "train" / "n01").mkdir(parents=True)
        monkeypatch.chdir(tmp_path)
    extra = ["--out=x"] if command == "train-denoiser" else []
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as stop:
        dispatch([command, f"--config={path}", *extra, "--print_config"])
    assert stop.value.code == 0
    resolved = yaml.safe_load(printed.getvalue())
    written = yaml.safe_load(path.read_text())
    for key, value in written.items():
        if key == "defenses":
            assert list(resolved["arms"]) == [*value, *written.get("arms", ())]
        elif key == "network" and command != "train-denoiser":
            assert resolved[key]["build"] == value
        elif key == "networks" and command == "certify-any":
            assert [one["build"] if isinstance(one, dict) else one for one in resolved[key]] == [
                one["build"] if isinstance(one, dict) else one for one in value
            ]
        elif not isinstance(value, dict):
            assert resolved[key] == value or resolved[key]["class_path"].endswith(value)


def test_the_digits_take_the_place_of_whatever_the_photographs_say() -> None:
    import contextlib
    import io

    from poison_and_defend.cli.dispatch import dispatch

    found = []
    for configs in (["--config=fashion_mnist", "--config=digits"], []):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
            dispatch(["poison-and-defend", *configs, "--print_config"])
        found.append(yaml.safe_load(printed.getvalue()))
    assert found[0] == found[1] and found[0]["data"]["class_path"].endswith("DigitsDataModule")
