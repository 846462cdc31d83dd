import os
import tempfile

import pytest

from poison_and_defend.callbacks.wandb_logging import QuietWandbLogger, make_logger
from poison_and_defend.callbacks.wandb_mode import wanted_mode
from poison_and_defend.core.errors import InputError


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ("online", "online"),
        ("offline", "offline"),
        ("Offline ", "offline"),
        ("dryrun", "offline"),
        ("disabled", "disabled"),
        ("shared", "shared"),
        ("", "online"),
        (None, "online"),
    ],
)
def test_modes(given, mode, monkeypatch) -> None:
    monkeypatch.delenv("WANDB_DISABLED", raising=False)
    monkeypatch.delenv("WANDB_MODE")
    if given is not None:
        monkeypatch.setenv("WANDB_MODE", given)
    assert wanted_mode() == mode
    # W&B fails on an empty one, and on capitals.
    assert os.environ.get("WANDB_MODE") in (None, given and given.strip().lower())


@pytest.mark.parametrize("value", ["true", "1", "True"])
def test_the_variable_of_other_trainers_disables_too(value, monkeypatch) -> None:
    # Remembered here, so that what the code sets does not reach the next test.
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DISABLED", value)
    assert wanted_mode() == "disabled"


def test_an_unknown_mode_is_one_sentence_before_any_work(monkeypatch, tmp_path) -> None:
    from poison_and_defend.cli.dispatch import dispatch

    monkeypatch.setenv("WANDB_MODE", "foo")
    with pytest.raises(InputError, match="WANDB_MODE is 'foo': it is online, offline, disabled or shared"):
        dispatch(["poison-and-defend", f"--output_dir={tmp_path / 'runs'}"])
    assert not list(tmp_path.iterdir())


def test_disabled_writes_nothing_and_offline_does(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.chdir(tmp_path)
    assert make_logger("project", "group", "craft", tmp_path / "run", {}) is None
    logger = QuietWandbLogger(save_dir=str(tmp_path))
    logger.log_metrics({"a": 1.0}, step=0)
    logger.experiment.finish()
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("WANDB_MODE", "offline")
    own = make_logger("project", "group", "craft", tmp_path, {})
    assert own is not None
    own.experiment.finish()
    assert list((tmp_path / "wandb").glob("offline-run-*"))


def test_a_disabled_logger_of_a_fit_keeps_no_configuration_either(monkeypatch, tmp_path) -> None:
    from poison_and_defend.cli.dispatch import dispatch

    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.chdir(tmp_path)
    # Where a disabled run says that its files are.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dispatch(
        ["validate", "--model=ClassifierModule", "--data=DigitsDataModule", "--trainer.logger=QuietWandbLogger",
         "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    )  # fmt: skip
    assert not list(tmp_path.rglob("*"))
