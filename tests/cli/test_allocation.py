import os

import pytest

from poison_and_defend.cli.allocation import is_task, leave_idle_allocation
from poison_and_defend.training.launch import Launch

JOB = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "zsh", "SLURM_NNODES": "1"}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in [*os.environ]:
        if name.startswith(("SLURM_", "MASTER_")) or name in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("more", "task", "kept"),
    [
        ({}, False, False),
        # The shell of salloc where sites start it as a step of its own, and a batch script.
        ({"SLURM_PROCID": "0", "SLURM_STEP_ID": "4294967290"}, False, False),
        ({"SLURM_PROCID": "0", "SLURM_STEP_ID": "4294967291"}, False, False),
        ({"SLURM_PROCID": "0"}, False, False),
        ({"SLURM_PROCID": "0", "SLURM_STEP_ID": "batch"}, False, False),
        ({"SLURM_PROCID": "3", "SLURM_STEP_ID": "0"}, True, True),
        ({"SLURM_PROCID": "0", "SLURM_STEPID": "12"}, True, True),
        # A batch script of one task, which Lightning requeues.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, False, True),
        ({"SLURM_NTASKS": "1"}, False, False),
    ],
)
def test_only_tasks_of_a_step_join_others(more, task, kept, monkeypatch) -> None:
    for name, value in {**JOB, **more}.items():
        monkeypatch.setenv(name, value)
    assert is_task() == task
    leave_idle_allocation()
    assert ("SLURM_NTASKS" in os.environ) == kept
    assert Launch(accelerator="cpu", devices=1).is_one_cpu_process() == (not kept)


def test_a_fit_in_the_shell_of_an_allocation_works_as_it_was_asked_to(monkeypatch, tmp_path) -> None:
    from poison_and_defend.cli.dispatch import dispatch

    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    # Lightning, left to itself, asks for --ntasks-per-node, and then for a rank.
    quiet = ["--trainer.logger=false", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    few = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
    where = ["--trainer.accelerator=cpu", "--trainer.devices=1", f"--trainer.default_root_dir={tmp_path}"]
    dispatch(["fit", "--model=ClassifierModule", "--data=DigitsDataModule", *quiet, *few, *where])
    assert list(tmp_path.rglob("*.ckpt"))
