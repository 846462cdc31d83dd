"""What only a process of its own shows: its environment, its signals, and its ranks."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.conftest import ROOT

FIT = ["--model=ClassifierModule", "--data=DigitsDataModule", "--trainer.logger=false", "--trainer.accelerator=cpu"]
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]


def test_a_notebooks_backend_that_is_not_installed_stops_no_command_that_draws(cli, tmp_path) -> None:
    options = [
        "--num_setups=1",
        "--num_poisons=10",
        "--attack.steps=2",
        "--feature_recipe.epochs=1",
        "--victim_recipe.epochs=1",
    ]
    where = [f"--output_dir={tmp_path}", "--name=a", "--trainer.accelerator=cpu", "--wandb_project=null", "--defenses=[none]"]
    result = cli("poison-and-defend", *options, *where, MPLBACKEND="module://matplotlib_inline.backend_inline")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "a" / "report.html").exists()


def test_the_file_in_a_clone_is_the_same_command(in_process) -> None:
    result = subprocess.run([sys.executable, "cli.py", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "sanitize" in result.stdout and result.stdout == in_process("--help").stdout


@pytest.mark.ddp
@pytest.mark.slow
def test_two_ranks_predict_each_image_once(cli, in_process, tmp_path) -> None:
    for name, command, more in (("one", in_process, []), ("two", cli, TWO)):
        result = command("predict", *FIT, f"--out={tmp_path / name / 'p.csv'}", *more)
        assert result.returncode == 0, result.stderr
    one, two = (tmp_path / name / "p.csv" for name in ("one", "two"))
    # 399 images: a rank that had one of them twice would show.
    with open(one) as file:
        assert [row["row"] for row in csv.DictReader(file)] == [str(row) for row in range(399)]
    assert one.read_bytes() == two.read_bytes()


def fits(folder: Path) -> dict[str, tuple[list[str], str, str]]:
    """Commands in which something trains for ever: what is written as it begins, and what is printed once it is stopped."""
    runs = [f"--output_dir={folder}", "--name=a", "--trainer.accelerator=cpu", "--wandb_project=null"]
    few = ["--num_setups=2", "--num_poisons=10", "--attack.steps=2", "--feature_recipe.epochs=1", "--defenses=[none]"]
    endless = ["--trainer.max_epochs=1000000", f"--trainer.default_root_dir={folder}"]
    denoiser = ["--data.source=DigitsDataModule", f"--out={folder / 'denoiser'}", "--trainer.logger=false"]
    denoiser += ["--trainer.limit_train_batches=2"]
    certify = ["--learner=network", "--recipe.epochs=1000000", "--models=10", "--selection=10"]
    return {
        "fit": (["fit", *FIT, *endless], "*.ckpt", "add --ckpt_path"),
        "train-denoiser": (["train-denoiser", *denoiser, "--trainer.accelerator=cpu", *endless], "*.ckpt", "is not written"),
        "poison-and-defend": (
            ["poison-and-defend", *few, "--victim_recipe.epochs=1000000", *runs],
            "setup_001.json",
            "the same command continues where it was",
        ),
        "certify": (["certify", *certify, *runs], "*.claim", "the same command continues where it was"),
    }


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", ["fit", "train-denoiser", "poison-and-defend", "certify"])
def test_ctrl_c_while_a_fit_runs_is_one_line_and_130_and_ends_all_ranks(name, ranks, tmp_path) -> None:
    arguments, begun, sentence = fits(tmp_path)[name]
    inherited = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_PORT")}
    process = subprocess.Popen(
        [sys.executable, "-m", "poison_and_defend", *arguments, *(TWO if ranks == 2 else [])],
        cwd=ROOT,
        env={**inherited, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob(begun)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    # Long enough for the fit itself to run; if it does not yet, the answer is the same.
    time.sleep(2)
    assert process.poll() is None
    # The first rank alone: a terminal tells all of them.
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert [line for line in errors.splitlines() if line.startswith("stopped")] == [errors.splitlines()[-1]]
        assert sentence in errors and "Traceback" not in errors
        deadline = time.monotonic() + 10
        while living(process.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not living(process.pid)
    finally:
        for number in living(process.pid):
            os.kill(number, signal.SIGKILL)


def living(session: int) -> list[int]:
    """Processes of a session that are no zombies."""
    listed = subprocess.run(["ps", "-eo", "sid=,pid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [int(number) for owner, number, state in rows if int(owner) == session and not state.startswith("Z")]
