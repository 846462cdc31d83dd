import pickle
from pathlib import Path

import pytest
import torch

from poison_and_defend.cli.dispatch import dispatch
from poison_and_defend.core.errors import InputError

COMMANDS = ["fit", "validate", "test", "predict"]


class Hostile:
    """A value that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (type(self.path).touch, (self.path,))


def run(command: str, folder: Path, *more: str) -> None:
    extra = [f"--out={folder / 'p.csv'}"] if command == "predict" else []
    quiet = ["--trainer.logger=false", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    where = ["--trainer.accelerator=cpu", f"--trainer.default_root_dir={folder}"]
    dispatch([command, "--model=ClassifierModule", "--data=DigitsDataModule", *quiet, *where, *extra, *more])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """As a fit of this project writes it."""
    folder = tmp_path_factory.mktemp("fit")
    run("fit", folder, "--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1")
    (path,) = folder.rglob("*.ckpt")
    return path


@pytest.mark.parametrize(
    ("command", "options"),
    [*((name, []) for name in COMMANDS), ("test", ["--weights_only=true"]), ("test", ["--weights_only=null"])],
)
def test_a_checkpoint_that_this_project_wrote_is_read(command, options, checkpoint, tmp_path) -> None:
    few = ["--trainer.max_epochs=1"] if command == "fit" else []
    run(command, tmp_path, f"--ckpt_path={checkpoint}", *options, *few)
    assert (tmp_path / "p.csv").exists() == (command == "predict")


def hostile(folder: Path, checkpoint: Path) -> dict[str, Path]:
    good = torch.load(checkpoint, weights_only=True)
    kinds = {
        "pickle": good | {"more": Hostile(folder / "owned")},
        "class": good | {"hyper_parameters": {"_class_path": "antigravity.Model"}},
        "nested class": good | {"hyper_parameters": good["hyper_parameters"] | {"recipe": {"class_path": "antigravity.X"}}},
        "no version": {"state_dict": good["state_dict"]},
        "other weights": good | {"state_dict": {"a": torch.zeros(1)}},
        "tensor": torch.zeros(3),
    }
    paths = {name: folder / f"{name}.ckpt" for name in [*kinds, "junk", "empty", "cut", "plain pickle", "missing"]}
    for name, value in kinds.items():
        torch.save(value, paths[name])
    paths["junk"].write_bytes(b"junk" * 100)
    paths["empty"].touch()
    paths["cut"].write_bytes(checkpoint.read_bytes()[:-2000])
    paths["plain pickle"].write_bytes(pickle.dumps(Hostile(folder / "owned")))
    return paths | {"folder": folder, "device": Path("/dev/zero")}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pickle", "holds more than tensors and plain values"),
        ("class", "is of the class Model, which the command does not name"),
        ("nested class", "is of the class X"),
        ("no version", "no checkpoint of a fit"),
        ("other weights", "another architecture"),
        ("tensor", "no checkpoint of a fit"),
        ("junk", "damaged or no checkpoint"),
        ("empty", "damaged or no checkpoint"),
        ("cut", "damaged or no checkpoint"),
        ("plain pickle", "cannot be read|holds more"),
        ("missing", "there is no checkpoint"),
        ("folder", "there is no checkpoint"),
        ("device", "there is no checkpoint /dev/zero"),
    ],
)
def test_any_other_file_is_refused_in_one_sentence_and_runs_nothing(name, message, checkpoint, tmp_path) -> None:
    path = hostile(tmp_path, checkpoint)[name]
    with pytest.raises(InputError, match=message) as refusal:
        run("test", tmp_path, f"--ckpt_path={path}")
    assert "\n" not in str(refusal.value) and ("--ckpt_path" in str(refusal.value) or "--model" in str(refusal.value))
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ckpt_path=http://127.0.0.1:9/a.ckpt"], r"an address.*\(--ckpt_path\)"),
        (["--ckpt_path=simplecache::file:///etc/x"], "an address"),
        (["--weights_only=false"], "weights_only is false"),
        (["--ckpt_path=best"], "means something only where a fit went before"),
        (["--model.features=https://host/body.safetensors"], "model.features is .*an address"),
        (["--trainer.default_root_dir=memory://a"], "trainer.default_root_dir is .*an address"),
    ],
)
def test_addresses_and_foreign_code_are_refused_in_every_command(command, options, message, tmp_path) -> None:
    with pytest.raises(InputError, match=message):
        run(command, tmp_path, *options)


def test_the_last_checkpoint_of_a_folder_is_read_like_any_other(checkpoint, tmp_path) -> None:
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": {}, "more": Hostile(tmp_path / "owned")}, tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(InputError, match="more than tensors and plain values"):
        run("fit", tmp_path, "--ckpt_path=last", "--trainer.max_epochs=1")
    assert not (tmp_path / "owned").exists()


def test_a_logger_may_report_to_an_address() -> None:
    from jsonargparse import Namespace

    from poison_and_defend.training.checkpoint_check import refuse_addresses

    refuse_addresses(Namespace(trainer=Namespace(logger=Namespace(init_args=Namespace(tracking_uri="http://host")))))
