import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest

from poison_and_defend.cli.main import main
from tests.forked import can_be_forked, forked

ROOT = Path(__file__).resolve().parents[2]

# W&B's offline runs cost each experiment three seconds of a core; tests that read what it wrote say ``offline``.
NO_WANDB = {"WANDB_MODE": "disabled"}

# Whole stages at small size: real digits, real networks, few epochs.
SMALL = [
    "--num_setups=4",
    "--num_poisons=25",
    "--attack.steps=60",
    "--feature_recipe.epochs=12",
    "--victim_recipe.epochs=30",
    "--setups_per_batch=2",
    "--members_per_block=4",
    "--trainer.accelerator=cpu",
]


@pytest.fixture(scope="session")
def cli():
    """A command in a process of its own: a new one where it has several ranks or an environment is given, else a forked one."""

    def run(*arguments: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess:
        given = list(map(str, arguments))
        # A launcher's variables of this process must not reach the next one.
        inherited = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_PORT")}
        whole = {**inherited, **NO_WANDB, "OMP_NUM_THREADS": "1", **environment}
        if not environment and can_be_forked(given):
            return forked(given, ROOT, whole, timeout)
        return subprocess.run(
            [sys.executable, "-m", "poison_and_defend", *given],
            cwd=ROOT,
            env=whole,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    return run


@pytest.fixture(scope="session")
def in_process():
    """As ``cli``, where nothing depends on the process: a new one takes ten seconds to import torch and Lightning."""

    def run(*arguments: str | Path, timeout: float | None = None, **environment: str) -> subprocess.CompletedProcess:
        given, out, err = [str(argument) for argument in arguments], io.StringIO(), io.StringIO()
        with patch.dict(os.environ, NO_WANDB | environment), redirect_stdout(out), redirect_stderr(err):
            try:
                status = main(given)
            except SystemExit as stop:
                # Of the argument parser.
                status = int(stop.code or 0)
        return subprocess.CompletedProcess(given, status, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def finished(cli, tmp_path_factory) -> Path:
    """A small experiment, run once by one process."""
    folder = tmp_path_factory.mktemp("runs")
    result = cli("poison-and-defend", *SMALL, f"--output_dir={folder}", "--name=one", WANDB_MODE="offline")
    assert result.returncode == 0, result.stderr
    return folder / "one"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of four megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
