"""Under a real SLURM with two nodes on this machine."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from poison_and_defend.reports.records import read_results
from tests.end_to_end.conftest import ROOT, SMALL
from tests.end_to_end.test_lightning_cli import ARGUMENTS
from tests.picture_folders import tree, write_photos

pytestmark = [pytest.mark.slow, pytest.mark.ddp]

# As in the batch scripts, less what this machine does not have.
HERE = ["--ntasks-per-node=1", "--cpus-per-task=1", "--gres=none", "--open-mode=append"]
TWO_RANKS = ["--trainer.accelerator=cpu", "--trainer.num_nodes=2", "--trainer.devices=1"]


@pytest.fixture(scope="session")
def slurm():
    """Environment of a running SLURM."""
    if os.geteuid() != 0 or not all(shutil.which(name) for name in ("slurmctld", "slurmd", "munged")):
        pytest.skip("a local SLURM needs root, slurm-wlm and munge")
    folder = f"/var/tmp/slurm{os.getpid()}"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")} | {"LOCAL_SLURM": folder}
    started = subprocess.run(
        [ROOT / "scripts" / "local_slurm.sh", "start"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert started.returncode == 0, started.stderr
    yield environment | {
        "SLURM_CONF": f"{folder}/slurm.conf",
        "MASTER_ADDR": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
        "PYTHON": sys.executable,
    }
    subprocess.run([ROOT / "scripts" / "local_slurm.sh", "stop"], env=environment, check=True, timeout=60)


@pytest.fixture
def srun(slurm):
    def run(*arguments: str | Path) -> subprocess.CompletedProcess:
        command = ["srun", "--nodes=2", "--ntasks-per-node=1", sys.executable, "-m", "poison_and_defend", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, env=slurm, capture_output=True, text=True, timeout=300)

    return run


class Job:
    def __init__(self, environment: dict[str, str], log: Path, *arguments: str | Path) -> None:
        self.environment, self.log = environment, log
        self.number = self.ask("sbatch", "--parsable", f"--output={log}", *HERE, *map(str, arguments)).strip()

    def ask(self, *command: str) -> str:
        return subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=True).stdout

    def state(self) -> str:
        words = self.ask("scontrol", "show", "job", self.number, "--oneliner").split()
        return next(word.partition("=")[2] for word in words if word.startswith("JobState="))

    def wait_for(self, condition, seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text() if self.log.exists() else "the job did not begin"
            time.sleep(0.1)

    def finish(self) -> str:
        self.wait_for(lambda: self.state() in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"))
        text = self.log.read_text()
        assert self.state() == "COMPLETED", text
        return text


def recorded(folder: Path) -> int:
    return len(list((folder / ".unfinished" / "blocks").glob("*.csv")))


def test_a_whole_experiment_on_two_nodes_has_the_results_of_one_process(srun, finished, tmp_path) -> None:
    small = [option for option in SMALL if "trainer" not in option]
    result = srun("poison-and-defend", *small, *TWO_RANKS, f"--output_dir={tmp_path}", "--name=one")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "one" / "summary.json").read_bytes() == (finished / "summary.json").read_bytes()
    ours, theirs = (
        [replace(result, seconds=None) for result in read_results(folder / "results.jsonl")]
        for folder in (tmp_path / "one", finished)
    )
    assert ours == theirs and len(ours) == 4 * 6
    for one in (finished / "poisons").glob("*.safetensors"):
        assert one.read_bytes() == (tmp_path / "one" / "poisons" / one.name).read_bytes()
    # What is shared by content carries the bytes of one process too.
    shared = sorted(path.relative_to(tmp_path) for path in (tmp_path / "stores").rglob("images.npy"))
    assert shared and all((tmp_path / p).read_bytes() == (finished.parent / p).read_bytes() for p in shared)


def test_a_job_on_two_nodes_that_is_stopped_by_sigusr1_goes_back_to_the_queue_and_continues(slurm, cli, tmp_path) -> None:
    photos = write_photos(tmp_path / "in", 240)
    options = [
        "--data.root",
        photos,
        "--denoiser",
        "cifar10",
        "--sigma",
        "0.1",
        "--batch_size",
        "8",
        "--noise_seed",
        "0",
    ]
    alone = cli("sanitize", *options, "--out", tmp_path / "alone", "--trainer.accelerator=cpu", "--trainer.devices=1")
    assert alone.returncode == 0, alone.stderr
    out = tmp_path / "out"
    script = ROOT / "scripts" / "slurm" / "sanitize.sbatch"
    job = Job(slurm, tmp_path / "log", "--nodes=2", script, *options, "--out", out, "--trainer.accelerator", "cpu")
    job.wait_for(lambda: recorded(out) > 0)
    job.ask("scancel", "--signal=USR1", job.number)
    job.wait_for(lambda: "goes back to the queue" in job.log.read_text())
    assert not (out / "manifest.json").exists() and "images are done, and the same command continues" in job.log.read_text()
    text = job.finish()
    assert "of them done: about" in text and "240 of 240 images are sanitized" in text and "Traceback" not in text
    assert tree(out) == tree(tmp_path / "alone")


def test_an_array_of_independent_jobs_fills_one_output(slurm, cli, tmp_path) -> None:
    photos = write_photos(tmp_path / "in", 120)
    for path in photos.rglob("*.png"):
        Image.new("RGB", (16, 16), (128, 128, 128)).save(path)
    script = ROOT / "scripts" / "slurm" / "sanitize_array.sbatch"
    options = ["--data.root", photos, "--denoiser", "cifar10", "--batch_size", "8"]
    first = Job(
        slurm, tmp_path / "log_%a", "--array=1-2", script, *options, "--out", tmp_path / "out", "--trainer.accelerator", "cpu"
    )
    first.wait_for(lambda: (tmp_path / "out" / "manifest.json").exists())
    first.wait_for(lambda: not first.ask("squeue", "--noheader").strip())
    assert cli("sanitize", "--verify", tmp_path / "out", "--data.root", photos).returncode == 0
    # One image a hundred and twenty times: two jobs that drew their noise from one seed would write the same files.
    assert len({path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}) == 120
    logs = [(tmp_path / f"log_{number}").read_text() for number in (1, 2)]
    assert all("120 of 120 images are sanitized" in text for text in logs)


FIT_JOB = """#!/usr/bin/env bash
#SBATCH --job-name=fit
#SBATCH --nodes=1
#SBATCH --requeue
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source scripts/slurm/requeue.sh
run_or_requeue "$PYTHON" -m poison_and_defend fit "${RANKS[@]}" "$@"
"""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = folder.rglob("epoch=*.ckpt")
    assert "step=76" in path.name
    return torch.load(path, weights_only=True)["state_dict"]


def test_sigusr1_while_a_fit_sanitizes_does_not_leak_into_its_training(slurm, cli, finished, tmp_path) -> None:
    (tmp_path / "fit.sbatch").write_text(FIT_JOB)
    # Many evaluations an image, so that there is time to be stopped in.
    slow = [*ARGUMENTS, f"--data.source.poisons={finished / 'poisons' / 'setup_001.safetensors'}", "--data.denoise_steps=12"]
    slow += ["--data.sanitize_batch_size=16", "--trainer.logger=false"]

    def options(name: str) -> list[str]:
        return [*slow, f"--data.store={tmp_path / name / 'store'}", f"--trainer.default_root_dir={tmp_path / name}"]

    alone = cli("fit", *options("alone"), "--trainer.devices=1")
    assert alone.returncode == 0, alone.stderr
    job = Job(slurm, tmp_path / "log", tmp_path / "fit.sbatch", *options("job"))
    store = tmp_path / "job" / "store"
    job.wait_for(lambda: recorded(store) > 1)
    job.ask("scancel", "--signal=USR1", job.number)
    job.wait_for(lambda: "goes back to the queue" in job.log.read_text())
    # Lightning's own handler would have saved whatever model it had as the checkpoint that the next fit starts from.
    assert not list(tmp_path.rglob("hpc_ckpt*")) and recorded(store) > 0
    text = job.finish()
    assert "stopped by SIGUSR1" in text and "Traceback" not in text
    assert (store / "images.npy").read_bytes() == (tmp_path / "alone" / "store" / "images.npy").read_bytes()
    ours, theirs = weights(tmp_path / "job"), weights(tmp_path / "alone")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_two_ranks_test_every_image_exactly_once(srun, cli, finished, tmp_path) -> None:
    options = ["--model=ClassifierModule", "--data=DigitsDataModule", "--trainer.logger=false", "--trainer.accelerator=cpu"]
    fitted = cli("fit", *options, "--trainer.max_epochs=3", f"--trainer.default_root_dir={tmp_path}", "--trainer.devices=1")
    assert fitted.returncode == 0, fitted.stderr
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    accuracies = []
    for result in (
        cli("test", *options, "--trainer.devices=1", f"--ckpt_path={checkpoint}"),
        srun(
            "test",
            *options,
            "--trainer.num_nodes=2",
            "--trainer.devices=1",
            "--trainer.strategy=ddp",
            f"--ckpt_path={checkpoint}",
        ),
    ):
        assert result.returncode == 0, result.stderr
        (line,) = [line for line in result.stdout.splitlines() if "test/accuracy" in line]
        accuracies.append(line.split()[-2])
    # 399 images: a rank that tested one of them twice would show.
    assert accuracies[0] == accuracies[1] and 0.3 < float(accuracies[0]) < 1


@pytest.mark.parametrize("command", ["fit", "craft"])
def test_one_process_in_the_shell_of_an_allocation_for_several_works_as_it_was_asked_to(slurm, command, tmp_path) -> None:
    options = {
        "fit": [
            *("--model=ClassifierModule", "--data=DigitsDataModule", "--trainer.logger=false", "--trainer.max_epochs=1"),
            f"--trainer.default_root_dir={tmp_path}",
        ],
        "craft": [*SMALL, f"--output_dir={tmp_path}", "--name=a", "--wandb_project=null"],
    }[command]
    alone = ["--trainer.accelerator=cpu", "--trainer.devices=1"]
    # Lightning knows the shells that are called bash; this one has another name.
    allocation = ["salloc", "--nodes=2", "--ntasks=2", "--job-name=mine"]
    result = subprocess.run(
        [*allocation, sys.executable, "-m", "poison_and_defend", command, *options, *alone],
        cwd=ROOT,
        env=slurm,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.rglob("*.ckpt" if command == "fit" else "setup_*.safetensors"))
