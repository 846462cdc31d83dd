"""A disk that fills up while a command works: one sentence, and the same command continues."""

import shutil

import pytest

from tests.end_to_end.conftest import SMALL

pytestmark = pytest.mark.slow

CERTIFY = [
    "--sigma=0.25", "--m=20", "--models=60", "--alpha=0.05", "--defense=noise_only", "--feature_draws=0", "--noise_seed=0",
    "--feature_recipe.epochs=3", "--recipe.epochs=20", "--members_per_block=10", "--trainer.accelerator=cpu",
]  # fmt: skip
COMMANDS = {
    "craft": [*SMALL[:2], "--attack.steps=5", "--feature_recipe.epochs=2", "--setups_per_batch=1", "--trainer.accelerator=cpu"],
    "certify": CERTIFY,
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("room", [8_000, 150_000])
def test_experiments_and_certificates_say_so_and_continue(in_process, small_disk, command: str, room: int) -> None:
    with open(small_disk / "filler", "wb") as file:
        file.write(bytes(shutil.disk_usage(small_disk).free - room))
    given = [command, *COMMANDS[command], f"--output_dir={small_disk}", "--name=a", "--wandb_project=null"]
    result = in_process(*given)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr and "--output_dir" in result.stderr.splitlines()[-1]
    (small_disk / "filler").unlink()
    assert in_process(*given).returncode == 0
