"""Denoisers, weights and checkpoints."""

import os
from pathlib import Path

import torch
from diffusers import DDPMScheduler
from safetensors.torch import save_file

from poison_and_defend.core.files import write_json
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.diffusion.denoiser import load_denoiser
from poison_and_defend.diffusion.training_range import write_training_range
from poison_and_defend.images.row_digests import read_training_rows, write_training_rows
from poison_and_defend.lightning_modules.classifier import ClassifierModule, load_weights
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.training.checkpoints import load_classifier
from poison_and_defend.training.kept_models import ModelSpec, trained_models
from tests.conftest import tiny_unet
from tests.fuzzing.artefacts.base import Artefact, Read, digits


def _make_denoiser(folder: Path) -> None:
    tiny_unet(channels=1, size=16).save_pretrained(folder)
    DDPMScheduler().save_pretrained(folder)
    write_training_rows(folder, digits().split("public").images[:20])
    write_training_range(folder, 0.5)


def _make_pipeline(folder: Path) -> None:
    network = tiny_unet(channels=1, size=16)
    network.save_pretrained(folder / "unet", max_shard_size="60KB")
    DDPMScheduler().save_pretrained(folder / "scheduler")
    parts = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"]}
    write_json(folder / "model_index.json", {"_class_name": "DDPMPipeline", **parts})


def _read_denoiser(folder: Path) -> None:
    model = load_denoiser(str(folder))
    read_training_rows(folder)
    _ = model.fingerprint
    model.check_images((1, 16, 16))
    model(torch.zeros(1, 1, 16, 16), 0.1)


def _make_weights(folder: Path) -> None:
    save_file(build_network("convnet", in_channels=1, num_classes=10).state_dict(), folder / "weights.safetensors")


def _read_weights(folder: Path) -> None:
    load_weights(build_network("convnet", in_channels=1, num_classes=10), folder / "weights.safetensors")


def _spec() -> ModelSpec:
    return ModelSpec(Network("convnet"), 0, Recipe(epochs=1), digits().split("public"), 10, digits())


def _make_models(folder: Path) -> None:
    spec = _spec()
    save_file(spec.build().state_dict(), folder / "kept.safetensors")


def _read_models(folder: Path) -> None:
    spec = _spec()
    os.replace(folder / "kept.safetensors", folder / spec.file_name)
    trained_models([spec], folder, Ranks(), "")


def _make_checkpoint(folder: Path) -> None:
    import lightning as L

    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(ClassifierModule("convnet"))
    trainer.save_checkpoint(folder / "model.ckpt")


def _read_checkpoint(folder: Path) -> None:
    load_classifier(folder / "model.ckpt", 1, 10, "--classifier")(torch.zeros(1, 1, 32, 32))


MAKERS: dict[str, Read] = {
    "denoiser": _make_denoiser,
    "pipeline": _make_pipeline,
    "weights": _make_weights,
    "kept networks": _make_models,
    "checkpoint": _make_checkpoint,
}


def artefacts() -> list[Artefact]:
    """In an order that is always the same."""
    return [
        *(Artefact("denoiser", name, _read_denoiser, None, 8) for name in ("config.json", "scheduler_config.json")),
        *(Artefact("denoiser", name, _read_denoiser) for name in ("training_rows.npy", "denoiser.json")),
        Artefact("denoiser", "diffusion_pytorch_model.safetensors", _read_denoiser, None, 6),
        Artefact("pipeline", "model_index.json", _read_denoiser),
        Artefact("pipeline", "unet/diffusion_pytorch_model.safetensors.index.json", _read_denoiser),
        Artefact("weights", "weights.safetensors", _read_weights, None, 6),
        Artefact("kept networks", "kept.safetensors", _read_models),
        Artefact("checkpoint", "model.ckpt", _read_checkpoint, None, 10),
    ]
