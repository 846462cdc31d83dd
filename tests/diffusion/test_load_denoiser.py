import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler, ScoreSdeVeScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

from poison_and_defend.core.errors import InputError
from poison_and_defend.diffusion.batches import BatchedDenoiser
from poison_and_defend.diffusion.denoiser import Denoiser, load_denoiser
from tests.countermeasures import rewriter

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
    with pytest.raises(InputError, match=rf"there is no denoiser {re.escape(repr(name))}: choose .*--denoiser"):
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


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


NETWORKS = [
    ({"_class_name": "UNet2DConditionModel", "cross_attention_dim": 32}, r"UNet2DConditionModel, which needs a text"),
    ({"_class_name": "AutoencoderKL"}, r"AutoencoderKL, whose inputs"),
    ({"num_class_embeds": 10}, r"class-conditional \(num_class_embeds is 10\)"),
    ({"class_embed_type": "timestep"}, r"class-conditional \(class_embed_type is timestep\)"),
    ({"class_embed_type": "identity"}, r"class-conditional"),
]


@pytest.mark.parametrize(("values", "message"), NETWORKS)
def test_a_network_with_conditions_is_refused_in_one_sentence(folder: Path, values: dict, message: str) -> None:
    change(folder / "config.json", **values)
    if "num_class_embeds" in values or values.get("class_embed_type"):
        config = json.loads((folder / "config.json").read_text())
        UNet2DModel.from_config(config).save_pretrained(folder)
    with pytest.raises(InputError, match=rf"^the denoiser is .*{message}.*: use an unconditional UNet2DModel.*--denoiser\)$"):
        load_denoiser(str(folder))


def test_a_model_of_an_autoencoders_codes_is_refused(unet, make_scheduler, tmp_path: Path) -> None:
    unet.save_pretrained(tmp_path / "unet")
    make_scheduler().save_pretrained(tmp_path / "scheduler")
    parts = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"]}
    index = tmp_path / "model_index.json"
    index.write_text(json.dumps({"_class_name": "DDPMPipeline", **parts}))
    load_denoiser(str(tmp_path))
    index.write_text(json.dumps({"_class_name": "LDMPipeline", "vqvae": ["diffusers", "VQModel"], **parts}))
    with pytest.raises(InputError, match=r"codes of an autoencoder \(vqvae\).*--denoiser"):
        load_denoiser(str(tmp_path))


@pytest.mark.parametrize("scheduler", [FlowMatchEulerDiscreteScheduler(), ScoreSdeVeScheduler(), EDMEulerScheduler()])
def test_the_schedulers_class_is_read(folder: Path, unet, noisy, scheduler: Any) -> None:
    scheduler.save_pretrained(folder)
    loaded = load_denoiser(str(folder))
    assert torch.equal(loaded(noisy, 0.25), Denoiser(unet, scheduler)(noisy, 0.25))
    assert loaded.alphas_cumprod is None
    BatchedDenoiser(loaded, 0.25, batch_size=2, device=torch.device("cpu"))


@pytest.mark.parametrize("name", ["CMStochasticIterativeScheduler", "ScoreSdeVpScheduler", "Mine", None, 3])
def test_a_scheduler_that_is_not_known_is_refused_by_name(folder: Path, name: Any) -> None:
    change(folder / "scheduler_config.json", _class_name=name)
    with pytest.raises(InputError, match=rf"scheduler is {name or 'not named'}.*DDPMScheduler.*FlowMatch.*--denoiser"):
        load_denoiser(str(folder))


@pytest.mark.parametrize(
    "values",
    [
        {"act_fn": "relu"},
        {"norm_eps": 1e-3},
        {"freq_shift": 1},
        {"flip_sin_to_cos": False},
        {"center_input_sample": True},
        {"norm_num_groups": 2},
        {"mid_block_scale_factor": 2},
        {"attention_head_dim": 8},
        {"sample_size": 16},
    ],
)
def test_what_weights_do_not_tell_is_in_the_fingerprint(folder: Path, values: dict) -> None:
    before = load_denoiser(str(folder))
    change(folder / "config.json", **values)
    after = load_denoiser(str(folder))
    assert after.fingerprint != before.fingerprint
    defenses = [rewriter("diffusion", denoiser=model) for model in (before, after)]
    assert defenses[0].settings() != defenses[1].settings()


def test_what_cannot_change_the_output_is_not_in_the_fingerprint(folder: Path) -> None:
    before = load_denoiser(str(folder)).fingerprint
    change(folder / "config.json", _diffusers_version="9.9", _name_or_path="elsewhere", dropout=0.5, unheard_of=1)
    change(folder / "scheduler_config.json", _diffusers_version="9.9", clip_sample=False, variance_type="fixed_large")
    assert load_denoiser(str(folder)).fingerprint == before


def test_the_scheduler_of_other_families_is_in_the_fingerprint(folder: Path) -> None:
    prints = []
    for scheduler in (
        ScoreSdeVeScheduler(),
        ScoreSdeVeScheduler(sigma_min=0.02),
        EDMEulerScheduler(),
        EDMEulerScheduler(sigma_data=1.0),
        EDMEulerScheduler(prediction_type="v_prediction"),
        FlowMatchEulerDiscreteScheduler(),
        FlowMatchEulerDiscreteScheduler(num_train_timesteps=500),
    ):
        scheduler.save_pretrained(folder)
        prints.append(load_denoiser(str(folder)).fingerprint)
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize(("name", "known"), [("digits", "91807a73ff675212"), ("cifar10", "f69e724c7a8d9dc5")])
def test_the_denoisers_of_the_records_are_still_these(name: str, known: str) -> None:
    """``docs/records/*/settings.json``."""
    assert load_denoiser(f"poison_and_defend/pretrained/{name}").fingerprint == known


def test_fourier_frequencies_stay_exact_in_bfloat16(folder: Path) -> None:
    change(folder / "config.json", time_embedding_type="fourier")
    UNet2DModel.from_config(json.loads((folder / "config.json").read_text())).save_pretrained(folder)
    ScoreSdeVeScheduler().save_pretrained(folder)
    loaded = load_denoiser(str(folder))
    batched = BatchedDenoiser(loaded, 0.25, batch_size=2, device=torch.device("cpu"), precision="bfloat16")
    assert torch.equal(batched.model.unet.time_proj.weight, loaded.unet.time_proj.weight)
    assert batched.model.unet.conv_in.weight.dtype == torch.bfloat16 and batched.model.unet.dtype == torch.bfloat16
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert (batched.submit(images)() - loaded(images, 0.25)).abs().mean() < 0.02


@pytest.mark.parametrize("size", [[8], "8", 0, [8, -8], 8.5, [8, 8, 8], True])
def test_a_size_that_is_none_is_refused(folder: Path, size: Any) -> None:
    change(folder / "config.json", sample_size=size)
    with pytest.raises(InputError, match=r"sample_size is .*--denoiser"):
        load_denoiser(str(folder))
