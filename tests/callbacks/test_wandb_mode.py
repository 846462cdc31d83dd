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
        (None, "online"),
    ],
)
def test_modes(given, mode, monkeypatch) -> None:
    monkeypatch.delenv("WANDB_DISABLED", raising=False)
    monkeypatch.delenv("WANDB_MODE")
    if given is not None:
        monkeypatch.setenv("WANDB_MODE", given)
    assert wanted_mode() == mode
    # W&B fails on capitals.
    assert os.environ.get("WANDB_MODE") in (None, given and given.strip().lower())


@pytest.mark.parametrize("value", ["true", "1", "True"])
def test_the_variable_of_other_trainers_disables_too(value, monkeypatch) -> None:
    # Remembered here, so that what the code sets does not reach the next test.
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DISABLED", value)
    assert wanted_mode() == "disabled"


@pytest.mark.parametrize("command", ["poison-and-defend", "craft", "certify"])
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("WANDB_MODE", "foo", "WANDB_MODE is 'foo': it is online, offline, disabled or shared"),
        ("WANDB_MODE", "", "WANDB_MODE is '': it is online, offline, disabled or shared"),
        ("WANDB_CONSOLE", "foo", "WANDB_CONSOLE is 'foo', which W&B does not take: input should be 'auto', 'off'"),
        ("WANDB_SILENT", "maybe", "WANDB_SILENT is 'maybe', which W&B does not take: input should be a valid boolean"),
        ("WANDB_RUN_ID", "a/b", "WANDB_RUN_ID is 'a/b', which W&B does not take: "),
        ("WANDB_BASE_URL", "bad", "WANDB_BASE_URL is 'bad', which W&B does not take: input should be a valid URL"),
    ],
)
def test_a_variable_of_wandb_that_is_no_use_is_one_sentence_before_any_work(
    command, name, value, told, monkeypatch, tmp_path
) -> None:
    from poison_and_defend.cli.dispatch import dispatch

    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=told) as refusal:
        dispatch([command, f"--output_dir={tmp_path / 'runs'}", "--trainer.accelerator=cpu"])
    assert "\n" not in str(refusal.value)
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
