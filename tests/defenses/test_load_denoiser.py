import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

from defenses.denoiser import Denoiser, load_denoiser
from errors import InputError

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(folders: list[Path], tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(folders[0], tmp_path / "denoiser"))


@pytest.fixture(scope="module")
def noisy() -> torch.Tensor:
    return torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_model_is_read_back_as_it_was(folders, unet, make_scheduler, noisy) -> None:
    for steps in (1, 3):
        loaded = load_denoiser(str(folders[0]), steps=steps)
        assert torch.equal(loaded(noisy, 0.25), Denoiser(unet, make_scheduler(), steps=steps)(noisy, 0.25))
    assert not loaded.unet.training
    assert not any(parameter.requires_grad for parameter in loaded.unet.parameters())


def test_a_pipelines_two_folders_are_the_same_model(folders, unet, make_scheduler, tmp_path: Path, noisy) -> None:
    unet.save_pretrained(tmp_path / "unet")
    make_scheduler().save_pretrained(tmp_path / "scheduler")
    pipeline, single = load_denoiser(str(tmp_path)), load_denoiser(str(folders[0]))
    assert torch.equal(pipeline(noisy, 0.25), single(noisy, 0.25))
    assert pipeline.fingerprint == single.fingerprint


def test_half_precision_weights_are_computed_in_single(make_unet, make_scheduler, tmp_path: Path, noisy) -> None:
    make_unet().half().save_pretrained(tmp_path)
    make_scheduler().save_pretrained(tmp_path)
    loaded = load_denoiser(str(tmp_path))
    assert {parameter.dtype for parameter in loaded.unet.parameters()} == {torch.float32}
    assert torch.equal(loaded(noisy, 0.25), Denoiser(make_unet().half().float(), make_scheduler())(noisy, 0.25))


def test_settings_of_the_schedule_are_read(folder: Path, unet, make_scheduler, noisy) -> None:
    scheduler = make_scheduler("v_prediction", beta_end=0.01)
    scheduler.save_pretrained(folder)
    loaded = load_denoiser(str(folder))
    assert loaded.prediction == "v_prediction"
    assert torch.equal(loaded(noisy, 0.25), Denoiser(unet, scheduler)(noisy, 0.25))


def test_fingerprints_tell_weights_schedules_and_predictions_apart_but_not_places(
    folders, folder: Path, make_scheduler
) -> None:
    prints = [load_denoiser(str(path)).fingerprint for path in (*folders, folder)]
    assert prints[0] == prints[2] != prints[1]
    make_scheduler("sample").save_pretrained(folder)
    prints.append(load_denoiser(str(folder)).fingerprint)
    make_scheduler(beta_end=0.01).save_pretrained(folder)
    prints.append(load_denoiser(str(folder)).fingerprint)
    assert len(set(prints)) == 4
    assert all(len(fingerprint) == 16 for fingerprint in prints)


@pytest.mark.parametrize("name", ["missing", "./missing", "a/b/c", "/nowhere/missing"])
def test_a_missing_folder_is_refused_without_asking_the_network(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"there is no denoiser folder {name}.*--denoiser"):
        load_denoiser(name)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no config\.json.*--denoiser"):
        load_denoiser(str(tmp_path))


def cut_weights(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def foreign_weights(folder: Path) -> None:
    save_file({"foreign": torch.zeros(3)}, folder / WEIGHTS)


def one_weight_missing(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    del weights["conv_in.weight"]
    save_file(weights, folder / WEIGHTS)


def only_a_pickle(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / WEIGHTS.replace("safetensors", "bin"))
    (folder / WEIGHTS).unlink()


def other_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"block_out_channels": [16, 16]}))


def no_sample_size(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"sample_size": None}))


@pytest.mark.parametrize(
    "damage",
    [
        cut_weights,
        foreign_weights,
        one_weight_missing,
        only_a_pickle,
        other_architecture,
        no_sample_size,
        lambda folder: (folder / WEIGHTS).write_bytes(b"not safetensors"),
        lambda folder: (folder / WEIGHTS).unlink(),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "scheduler_config.json").unlink(),
        lambda folder: (folder / "scheduler_config.json").write_text("[]"),
    ],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_folder_is_refused(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder)
    with pytest.raises(InputError, match="--denoiser"):
        load_denoiser(str(folder))


def test_no_steps_are_refused(folders) -> None:
    with pytest.raises(InputError, match=r"denoise_steps is 0.*--denoise_steps"):
        load_denoiser(str(folders[0]), steps=0)


def test_the_models_of_this_test_are_small(unet: UNet2DModel, make_scheduler: Callable[..., DDPMScheduler]) -> None:
    assert sum(parameter.numel() for parameter in unet.parameters()) < 50_000
    assert len(make_scheduler().alphas_cumprod) == 1000
