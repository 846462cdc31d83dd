import errno

import pytest

from poison_and_defend.cli import main as cli
from poison_and_defend.cli.full_disk import refuse_full_disk
from poison_and_defend.cli.table import COMMANDS
from poison_and_defend.core.errors import InputError


def chained(inner: BaseException) -> BaseException:
    outer = ValueError("something else")
    outer.__cause__ = inner
    return outer


FULL = OSError(errno.ENOSPC, "No space left on device", "/runs/a.json")


@pytest.mark.parametrize(
    ("command", "error", "text"),
    [
        ("craft", FULL, r"no room left on the disk for /runs/a.json: .* the same command continues once .*\(--output_dir\)"),
        ("certify", chained(FULL), r"the same command continues .*\(--output_dir\)"),
        ("benchmark", OSError(errno.EDQUOT, "Disk quota exceeded"), r"no room left on the disk: .*\(--output_dir\)"),
        (
            "fit",
            RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"),
            r"begins again .*default_root_dir",
        ),
        ("train-denoiser", FULL, r"begins again .*\(--out\)"),
    ],
)
def test_whatever_a_full_disk_raises_is_one_sentence_with_an_option_of_the_command(command: str, error, text: str) -> None:
    with pytest.raises(InputError, match=text):
        refuse_full_disk(COMMANDS[command].place, COMMANDS[command].continues, error)


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, "Permission denied"), RuntimeError("shapes differ"), InputError("mine")]
)
def test_other_errors_stay_what_they_are(error) -> None:
    refuse_full_disk("--output_dir", True, error)


@pytest.mark.parametrize("command", ["craft", "poison-and-defend", "certify"])
def test_the_command_ends_with_status_two(command: str, tmp_path, monkeypatch, capsys) -> None:
    def full(*arguments) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    monkeypatch.setattr("poison_and_defend.core.files.os.fsync", full)
    monkeypatch.setattr("sys.argv", ["poison-and-defend"])
    assert cli.main([command, f"--output_dir={tmp_path}", "--name=a", "--trainer.accelerator=cpu", "--wandb_project=null"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "--output_dir" in line
