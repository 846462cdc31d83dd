import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.training import machine
from poison_and_defend.training.launch import Launch
from poison_and_defend.training.machine import check_machine


@pytest.fixture
def with_gpus(monkeypatch):
    def have(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return have


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (0, {"accelerator": "gpu"}, r"accelerator is gpu, but this machine has no GPU .* CPU core.*--trainer.accelerator cpu"),
        (0, {"accelerator": "cuda"}, "has no GPU"),
        (2, {"accelerator": "mps"}, "has 2 GPUs"),
        (0, {"accelerator": "tpu"}, "accelerator is tpu"),
        (0, {"accelerator": "abacus"}, "one of auto, cpu, gpu"),
        (0, {"devices": 0}, "devices is 0: at least 1.*no GPU"),
        (0, {"devices": "-1"}, "devices is -1: at least 1"),
        (0, {"devices": "many"}, "devices is 'many'"),
        (0, {"devices": [0]}, "a list of GPUs, but this machine has no GPU"),
        (1, {"devices": 2}, "devices is 2, but this machine has 1 GPU"),
        (2, {"devices": "0,2"}, "has 2 GPUs"),
        (2, {"devices": 0}, "devices is 0"),
        (0, {"num_nodes": -1}, "num_nodes is -1: it must be at least 1"),
        (0, {"num_nodes": 0}, "num_nodes is 0"),
        (0, {"strategy": "magic"}, "strategy is 'magic': it is auto or one of ddp, "),
        (0, {"strategy": "ddp_spawn"}, "strategy is 'ddp_spawn', .*--trainer.strategy ddp"),
        (0, {"strategy": "ddp_fork_find_unused_parameters_true"}, "strategy is"),
        (0, {"strategy": "ddp_notebook"}, "strategy is"),
        (0, {"strategy": "fsdp"}, "needs a GPU"),
    ],
)
def test_what_this_machine_does_not_have_is_refused_in_one_sentence(count, options, message, with_gpus) -> None:
    with_gpus(count)
    with pytest.raises(InputError, match=message) as refusal:
        check_machine(**{"accelerator": "auto", "devices": "auto", "num_nodes": 1, "strategy": "auto", **options})
    assert "\n" not in str(refusal.value) and "--trainer." in str(refusal.value)


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (0, {}),
        (0, {"accelerator": "cpu", "devices": 3, "strategy": "ddp"}),
        (0, {"devices": "2", "num_nodes": 4}),
        (2, {"accelerator": "gpu", "devices": "-1"}),
        (2, {"devices": "1,"}),
        (2, {"devices": [0, 1], "strategy": "fsdp"}),
        (0, {"strategy": object(), "accelerator": object()}),
    ],
)
def test_the_rest_is_left_to_the_trainer(count, options, with_gpus) -> None:
    with_gpus(count)
    check_machine(**{"accelerator": "auto", "devices": "auto", "num_nodes": 1, "strategy": "auto", **options})


def test_a_rank_that_a_launcher_shows_one_gpu_of_several_is_no_misfit(with_gpus, monkeypatch) -> None:
    with_gpus(1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a")
    check_machine("gpu", 4, 1, "ddp")


def test_a_stage_takes_no_strategy_that_shards_models(monkeypatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: 2)
    with pytest.raises(InputError, match="a stage takes auto or ddp"):
        Launch(strategy="fsdp")


@pytest.mark.skipif(machine.gpus() > 0, reason="the configuration fits a machine with a GPU")
@pytest.mark.parametrize(
    "command",
    [
        ["poison-and-defend"],
        ["craft"],
        ["benchmark", "--name=x"],
        ["certify"],
        ["sanitize", "--data.root=.", "--out=y"],
        ["train-denoiser", "--data.source=DigitsDataModule", "--out=y"],
        *([name, "--model=ClassifierModule", "--data=DigitsDataModule"] for name in ("fit", "validate", "test", "predict")),
    ],
    ids=lambda command: command[0],
)
def test_every_command_that_starts_ranks_says_so_before_any_work(command, tmp_path, monkeypatch) -> None:

    from poison_and_defend.cli.dispatch import dispatch

    config = "trainer/gpu"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="accelerator is gpu, but this machine has no GPU"):
        dispatch([*command, f"--config={config}"])
    assert not list(tmp_path.iterdir())
