"""The command itself: ranks and jobs give the same votes, a kill costs nothing, bad input is one line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.conftest import NO_WANDB, ROOT

OPTIONS = [
    "--sigma=0.25",
    "--m=20",
    "--models=60",
    "--alpha=0.05",
    "--defense=noise_only",
    "--feature_draws=0",
    "--feature_recipe.epochs=5",
    "--members_per_block=10",
    "--threads=1",
    "--bagging=[]",
    "--challenge=2",
    "--challenge_steps=5",
    "--goal_k=2",
    "--name=one",
    "--noise_seed=0",
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
]


def votes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "one" / "votes" / "sigma_0.25_m_20").glob("*.npz")}


def table(folder: Path) -> list:
    return json.loads((folder / "one" / "certificate.json").read_text())["settings"][0]["table"]


@pytest.fixture(scope="session")
def certified(cli, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("certified")
    result = cli("certify", *OPTIONS, f"--output_dir={folder}", WANDB_MODE="offline")
    assert result.returncode == 0, result.stderr
    assert "certified accuracy" in result.stdout and "images to noise and denoise" in result.stdout
    return folder


def test_a_certificate_is_kept_as_json_arrays_pictures_and_wandb_files(certified):
    folder = certified / "one"
    assert len(votes(certified)) == 6 and not list(folder.rglob("*.claim"))
    assert {p.name for p in (folder / "figures").glob("*.png")} == {"radius.png", "sigma_0.25_m_20.png"}
    assert list((folder / "wandb").glob("offline-run-*/*.wandb")) and (folder / "config.yaml").exists()
    assert table(certified)[0][3] > 0.5
    challenge = json.loads((folder / "certificate.json").read_text())["settings"][0]["challenge"]
    assert challenge["targets"] == 2 and challenge["flips"] == 0 and challenge["retrained"] > 0
    assert np.load(folder / "sigma_0.25_m_20.npz")["counts"].sum() == 60 * 399


def test_the_report_can_be_made_again(in_process, certified):
    page = certified / "one" / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert in_process("report", f"--run={certified / 'one'}").returncode == 0
    assert page.read_bytes() == before


@pytest.mark.ddp
@pytest.mark.slow
def test_two_ranks_cast_the_same_votes(cli, certified, tmp_path):
    ranks = [o for o in OPTIONS if "devices" not in o] + ["--trainer.devices=2", "--trainer.strategy=ddp"]
    result = cli("certify", *ranks, f"--output_dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert votes(tmp_path) == votes(certified) and table(tmp_path) == table(certified)


def start(folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "poison_and_defend", "certify", *OPTIONS, f"--output_dir={folder}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **NO_WANDB, "OMP_NUM_THREADS": "1"}, **quiet)


def kill_at_work(process: subprocess.Popen, folder: Path) -> None:
    """Kill -9 as soon as some votes are there."""
    deadline = time.monotonic() + 240
    while not list(folder.glob("one/votes/*/votes_*.npz")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_two_jobs_fill_one_store_and_the_death_of_one_costs_nothing(certified, tmp_path):
    """Jobs that know of each other by their files alone; the second is killed at work, and the first finishes for both."""
    first, second = start(tmp_path), start(tmp_path)
    kill_at_work(second, tmp_path)
    assert first.wait(240) == 0
    assert votes(tmp_path) == votes(certified) and table(tmp_path) == table(certified)


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_votes(in_process, certified, tmp_path):
    kill_at_work(start(tmp_path), tmp_path)
    assert not (tmp_path / "one" / "certificate.json").exists()
    result = in_process("certify", *OPTIONS, f"--output_dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert votes(tmp_path) == votes(certified) and table(tmp_path) == table(certified)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models=10"], "error: models is 10: at alpha 0.001 even unanimous votes certify nothing before 11"),
        (["--warm_start=raw"], "error: this would be no certificate: warm start (raw)"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(in_process, tmp_path, arguments, message):
    result = in_process("certify", *arguments, f"--output_dir={tmp_path / 'runs'}")
    assert result.returncode == 2 and message in result.stderr and "Traceback" not in result.stderr
    assert sum(line.startswith("error:") for line in result.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()
