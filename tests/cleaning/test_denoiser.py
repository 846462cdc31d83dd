"""The denoiser's folder is part of what a set is made with, to the last setting that changes a pixel."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UNet2DModel

from poison_and_defend.certificate.plan import plan_certificate
from poison_and_defend.certificate.task import CertifyTask
from poison_and_defend.cleaning.plan import build_defense
from poison_and_defend.cleaning.run import sanitize_alone
from poison_and_defend.cleaning.task import SanitizeInput, SanitizeTask
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.options import from_flat
from poison_and_defend.datamodules.wrappers.sanitized import DiffusionSanitizeDataModule
from poison_and_defend.sanitizing.tiled import TiledDefense
from poison_and_defend.storage.verify import verify
from poison_and_defend.training.launch import Launch
from tests.countermeasures import arms
from tests.picture_folders import write_photos


def run(root: Path, denoiser: Path | str, out: Path, **options) -> Path:
    task = SanitizeTask(out=str(out), data=SanitizeInput(root=str(root)), denoiser=str(denoiser), batch_size=16, **options)
    return sanitize_alone(task, Launch(accelerator="cpu", devices=1))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "in", 40, classes=2)


@pytest.fixture
def denoiser(tmp_path: Path, colour_denoiser_folder: str) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(colour_denoiser_folder, tmp_path / "own"))


@pytest.mark.parametrize(("option", "value"), [("act_fn", "relu"), ("norm_eps", 1e-3), ("sample_size", 8)])
def test_half_a_set_is_not_finished_by_another_network(photos, denoiser, tmp_path, monkeypatch, option: str, value) -> None:
    start, calls = TiledDefense.start, []

    def killed(self, groups):
        calls.append(len(groups))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return start(self, groups)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TiledDefense, "start", killed)
        run(photos, denoiser, tmp_path / "out")
    config = denoiser / "config.json"
    before = config.read_text()
    config.write_text(json.dumps(json.loads(before) | {option: value}))
    with pytest.raises(InputError, match=r"denoiser|other settings|--out"):
        run(photos, denoiser, tmp_path / "out")
    config.write_text(before)
    run(photos, denoiser, tmp_path / "out")
    assert verify(tmp_path / "out", lambda done, total: None)["sanitized"] == 40


def test_a_flow_matching_network_sanitizes_a_folder(photos, denoiser, tmp_path) -> None:
    FlowMatchEulerDiscreteScheduler().save_pretrained(denoiser)
    run(photos, denoiser, tmp_path / "out", sigma="25/255")
    manifest = verify(tmp_path / "out", lambda done, total: None)
    assert manifest["settings"]["sigma"] == 25 / 255 and manifest["sanitized"] == 40


def test_a_network_whose_sides_do_not_divide_sanitizes_tiles(photos, tmp_path) -> None:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",) * 3, "up_block_types": ("UpBlock2D",) * 3}
    options = {"block_out_channels": (8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1}
    UNet2DModel(sample_size=18, in_channels=3, out_channels=3, **options, **blocks).save_pretrained(tmp_path / "odd")
    FlowMatchEulerDiscreteScheduler().save_pretrained(tmp_path / "odd")
    run(photos, tmp_path / "odd", tmp_path / "out")
    assert verify(tmp_path / "out", lambda done, total: None)["sanitized"] == 40


def test_sigma_is_a_fraction_to_every_command(plan, digits, denoiser_folder, tmp_path) -> None:
    told = plan(sigma="25/255", arms=arms(["diffusion", "noise_only"]), denoiser=denoiser_folder)
    assert {arm.sigma for arm in told.arms.values()} == {25 / 255}

    def settings(sigma):
        options = {"data": digits, "sigma": sigma, "m": 30, "defense": "noise_only"}
        return [setting.sigma for setting in plan_certificate(from_flat(CertifyTask, options)).settings]

    assert settings(["25/255", 0.5, "0.25"]) == [25 / 255, 0.5, 0.25]
    assert settings("25/255") == [25 / 255]
    with pytest.raises(InputError, match="each once"):
        settings(["51/255", 0.2])
    module = DiffusionSanitizeDataModule(digits, str(tmp_path / "store"), denoiser=denoiser_folder, sigma="25/255")
    assert module.defense.sigma == 25 / 255
    options = {"denoiser": denoiser_folder, "defense": "diffusion"}
    assert build_defense(SanitizeTask(out="out", sigma="25/255", **options)).sigma == 25 / 255
    for sigma in (25, "25", "50/2"):
        for task in (
            lambda given: plan(sigma=given, arms=arms(["noise_only"])),
            lambda given: DiffusionSanitizeDataModule(digits, "store", defense="noise_only", sigma=given),
            lambda given: build_defense(SanitizeTask(out="out", sigma=given, **options)),
            settings,
        ):
            with pytest.raises(InputError, match=r"sigma is 25: .*25/255 \(--sigma\)"):
                task(sigma)
