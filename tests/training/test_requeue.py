import lightning as L
import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.lightning_modules import ClassifierModule
from poison_and_defend.training.local_trainer import local_trainer
from poison_and_defend.training.requeue import refuse_foreign_checkpoint


@pytest.fixture
def job(monkeypatch, tmp_path):
    """Makes this process a task of a job."""

    def become(number: str) -> None:
        for name, value in {"NTASKS": "1", "JOB_NAME": "fit", "JOB_ID": number, "PROCID": "0", "LOCALID": "0"}.items():
            monkeypatch.setenv(f"SLURM_{name}", value)

    monkeypatch.chdir(tmp_path)
    become("12")
    return become


def trainer(folder) -> L.Trainer:
    # What the guard looks at; a Trainer under SLURM would want to launch ranks.
    class Pretended:
        default_root_dir, is_global_zero = str(folder), True

    return Pretended()  # type: ignore[return-value]


def test_a_restarted_job_continues_its_own_training_and_no_other(job, tmp_path) -> None:
    refuse_foreign_checkpoint(trainer(tmp_path), "fit ClassifierModule")
    (tmp_path / "hpc_ckpt_1.ckpt").touch()
    refuse_foreign_checkpoint(trainer(tmp_path), "fit ClassifierModule")
    with pytest.raises(
        InputError, match=r"hpc_ckpt_1.ckpt was left by .*job 12 fit ClassifierModule.*--trainer.default_root_dir"
    ):
        refuse_foreign_checkpoint(trainer(tmp_path), "denoiser /somewhere")
    job("13")
    with pytest.raises(InputError, match="this is 13 fit ClassifierModule"):
        refuse_foreign_checkpoint(trainer(tmp_path), "fit ClassifierModule")


def test_a_checkpoint_that_nobody_signed_is_refused(job, tmp_path) -> None:
    (tmp_path / "hpc_ckpt_3.ckpt").touch()
    with pytest.raises(InputError, match="job unknown"):
        refuse_foreign_checkpoint(trainer(tmp_path), "fit ClassifierModule")


def test_outside_slurm_nothing_is_looked_at(tmp_path) -> None:
    (tmp_path / "hpc_ckpt_3.ckpt").touch()
    refuse_foreign_checkpoint(trainer(tmp_path), "fit ClassifierModule")


def test_a_member_of_an_ensemble_does_not_start_from_what_lies_in_the_working_folder(job, tmp_path) -> None:
    """In Lightning a fit under SLURM loads the newest hpc_ckpt of its folder, which is the working folder by default."""
    data = DigitsDataModule()
    model = ClassifierModule(num_classes=10, in_channels=1)
    other = ClassifierModule(num_classes=10, in_channels=1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(7.0)
    checkpoint = {"state_dict": other.state_dict(), "epoch": 0, "global_step": 1, "pytorch-lightning_version": L.__version__}
    torch.save(checkpoint, tmp_path / "hpc_ckpt_1.ckpt")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    local = local_trainer(Ranks(), epochs=0)
    local.fit(model, data)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
