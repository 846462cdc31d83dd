import subprocess
import sys

import pytest
import torch

from poison_and_defend.training.launch import Launch
from tests.end_to_end.conftest import ROOT


@pytest.mark.parametrize(
    ("launch", "alone"),
    [
        (Launch(accelerator="cpu"), True),
        (Launch(accelerator="cpu", devices="1"), True),
        (Launch(accelerator="cpu", devices=2), False),
        (Launch(accelerator="cpu", num_nodes=2), False),
        (Launch(accelerator="cpu", strategy="ddp"), False),
    ],
)
def test_one_process_on_a_cpu_needs_no_launcher(launch: Launch, alone: bool, monkeypatch) -> None:
    for name in ("SLURM_NTASKS", "WORLD_SIZE", "LOCAL_RANK", "RANK"):
        monkeypatch.delenv(name, raising=False)
    assert launch.is_one_cpu_process() == alone
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not launch.is_one_cpu_process()


def test_a_gpu_is_not_passed_over(monkeypatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert not Launch().is_one_cpu_process()


def test_a_folder_is_sanitized_without_waiting_for_what_it_does_not_need() -> None:
    code = (
        "import sys; from poison_and_defend.cli.dispatch import dispatch\n"
        "try: dispatch(['sanitize', '--data.root', '/nowhere', '--out', '/tmp/x', '--trainer.accelerator', 'cpu'])\n"
        "except Exception as error: print(error)\n"
        "print({'lightning', 'torchmetrics', 'matplotlib'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stdout.splitlines()[-2:] == [
        "there is no folder and no file /nowhere: name a folder, an image, a pattern such as 'photos/**/*.jpg', a list "
        "[a.png,b.png] or an .npz (--data.root)",
        "set()",
    ], result.stderr
