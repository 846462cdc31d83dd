"""One of every kind of file that the project reads: made by its own code at tiny size, and read by its own functions."""

import hashlib
import itertools
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from diffusers import DDPMScheduler
from PIL import Image
from safetensors.torch import save_file

from poison_and_defend.attacks.threat.additive_trigger import AdditiveTrigger
from poison_and_defend.attacks.threat.budget import Budget
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.setups import Setup, draw_setups
from poison_and_defend.attacks.threat.trigger import PatchTrigger
from poison_and_defend.certificate.plan import plan_certificate
from poison_and_defend.certificate.run import certify
from poison_and_defend.certificate.task import CertifyTask
from poison_and_defend.certificate.vote_store import VoteStore
from poison_and_defend.cleaning.data_task import SanitizeData
from poison_and_defend.cleaning.quality import Originals, QualityTask, run_quality
from poison_and_defend.cleaning.run import sanitize_alone
from poison_and_defend.cleaning.task import SanitizeTask
from poison_and_defend.core.files import save_arrays, write_json
from poison_and_defend.core.hashing import checksum_file
from poison_and_defend.core.options import from_flat
from poison_and_defend.core.processes.leases import Leases
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.datamodules import (
    ArraysDataModule,
    CIFAR10DataModule,
    DigitsDataModule,
    ImageFolderDataModule,
    MNISTDataModule,
)
from poison_and_defend.datamodules.tiny_imagenet import TinyImageNetDataModule
from poison_and_defend.datamodules.wrappers.poisoned import PoisonedDataModule
from poison_and_defend.diffusion.denoiser import load_denoiser
from poison_and_defend.diffusion.training_range import write_training_range
from poison_and_defend.experiment.task.claim import claim
from poison_and_defend.images.row_digests import read_training_rows, write_training_rows
from poison_and_defend.lightning_modules.classifier import ClassifierModule, load_weights
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.poisons.benchmark_files import read_benchmark, read_npz, write_benchmark, write_npz
from poison_and_defend.poisons.exchange import to_benchmark
from poison_and_defend.poisons.files import save_poisons
from poison_and_defend.poisons.setup_files import load_setups
from poison_and_defend.reports.certificate.write import write_certificate_report
from poison_and_defend.reports.experiment.write import write_report
from poison_and_defend.reports.provenance import provenance
from poison_and_defend.reports.records import write_results
from poison_and_defend.sanitizing.engine import load
from poison_and_defend.storage.ledger import BlockStore
from poison_and_defend.storage.verify import verify
from poison_and_defend.training.checkpoints import load_classifier
from poison_and_defend.training.kept_models import ModelSpec, trained_models
from poison_and_defend.training.launch import Launch
from poison_and_defend.transforms.pixel_file import PixelFile
from tests.conftest import tiny_unet
from tests.picture_folders import photo, write_photos
from tests.reports.conftest import build_result

ONE = Launch(accelerator="cpu", devices=1)
VOTES = {"seed": 0, "sigma": 0.25}
SETTINGS = {"data": {"name": "digits"}, "seed": 0, "defenses": {"none": {"name": "none"}}, "rows": "abc", "num_setups": 1}

Read = Callable[[Path], object]


@dataclass(frozen=True)
class Artefact:
    """A file that is changed, and what reads it.

    Attributes:
        kind: What it is part of; also the folder that is copied.
        file: Its path below that folder.
        read: The project's own reader, given the copy of the folder.
        reseal: Makes checksums fit again that lie elsewhere, so that what is behind them is reached too.
        weight: How often it is chosen.
    """

    kind: str
    file: str
    read: Read
    reseal: Read | None = None
    weight: int = 3

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.kind}/{self.file}"


@cache
def digits() -> DigitsDataModule:
    """Read once a process."""
    return DigitsDataModule()


# Poison sets


def _poisons(trigger: bool) -> PoisonSet:
    train, test = digits().split("train"), digits().split("test")
    (setup,) = draw_setups(train.labels.numpy(), test.labels.numpy(), num_setups=1, num_poisons=3, seed=0)
    bases = train.images[torch.from_numpy(setup.base_indices)]
    poisons = bases + (bases < 200).to(torch.uint8) * 9
    rest: dict[str, Any] = {}
    if trigger:
        rest = {"trigger": PatchTrigger(size=4).build((1, 32, 32)), "goal": "source"}
    return PoisonSet(setup, poisons, bases, test.images[setup.target_index], Budget("linf", 16 / 255), {"name": "x"}, **rest)


def _make_poisons(folder: Path) -> None:
    save_poisons(_poisons(trigger=True), folder)


def _make_added(folder: Path) -> None:
    """Poisons with one perturbation, which is the trigger too."""
    plain = _poisons(trigger=False)
    trigger = AdditiveTrigger((torch.arange(32 * 32).reshape(1, 32, 32) % 33 - 16).to(torch.int16), 3.0)
    images = trigger.poison(plain.bases)
    save_poisons(replace(plain, images=images, trigger=trigger, goal="others"), folder)


def _read_poisons(folder: Path) -> None:
    data = PoisonedDataModule(digits(), str(folder / "setup_000.safetensors"))
    data.split("train")
    test = data.split("test")
    data.poisons.tested_images(test.images, test.labels)
    with suppress_input():
        to_benchmark(data.poisons)


def _reseal_poisons(folder: Path) -> None:
    record = json.loads((folder / "setup_000.json").read_text())
    content = (folder / "setup_000.safetensors").read_bytes()
    write_json(folder / "setup_000.json", record | {"sha256": hashlib.sha256(content).hexdigest()})


def suppress_input() -> Any:
    """What follows may well be refused."""
    from poison_and_defend.core.errors import InputError

    return suppress(InputError)


# Sanitized sets, complete and in the making


def _sanitize(folder: Path, out: str, seed: int | None = 0) -> Path:
    data = SanitizeData(str(folder / "in"), 3)
    return sanitize_alone(SanitizeTask(str(folder / out), data, "noise_only", sigma=0.1, noise_seed=seed, batch_size=2), ONE)


def _make_sanitized(folder: Path) -> None:
    write_photos(folder / "in", 4)
    _sanitize(folder, "out")
    _sanitize(folder, "out.npz")


def _make_unfinished(folder: Path, out: str, seed: int | None = 0) -> None:
    """All blocks done but one, as a kill leaves it."""
    write_photos(folder / "in", 6)

    class Killed(BaseException):
        pass

    def killed(*_: object) -> bool:
        raise Killed

    with patch.object(BlockStore, "finish", killed), suppress(Killed):
        _sanitize(folder, out, seed)
    (working,) = folder.glob("**/*unfinished")
    sorted((working / "blocks").iterdir())[-1].unlink()


def _resume(out: str, seed: int | None = 0) -> Read:
    def read(folder: Path) -> None:
        # Copies of inputs have other times.
        _check(_sanitize(folder, out, seed))

    return read


def _check(place: Path) -> None:
    verify(place, lambda done, total: None)


def _verify(folder: Path) -> None:
    _check(folder / "out")


def _verify_npz(folder: Path) -> None:
    _check(folder / "out.npz")


def _reseal_rows(folder: Path) -> None:
    path = folder / "out" / "manifest.json"
    manifest = json.loads(path.read_text())
    write_json(path, manifest | {"rows": checksum_file(folder / "out" / "rows.csv")})


def _quality(folder: Path) -> None:
    run_quality(QualityTask(str(folder / "out"), Originals(str(folder / "in"))))


def _quality_npz(folder: Path) -> None:
    run_quality(QualityTask(str(folder / "out.npz"), Originals(str(folder / "in"))))


def _make_store(folder: Path) -> None:
    from poison_and_defend.sanitizing.engine import sanitize
    from tests.countermeasures import rewriter

    images = digits().split("test").images[:8]
    sanitize(images, torch.arange(8), rewriter("noise_only", sigma=0.1, seed=0), folder / "store", Ranks(), batch_size=4)


def _read_store(folder: Path) -> None:
    load(folder / "store", (8, 1, 32, 32))[0].sum()


def _reseal_store(folder: Path) -> None:
    path = folder / "store" / "manifest.json"
    write_json(path, json.loads(path.read_text()) | {"images": checksum_file(folder / "store" / "images.npy")})


# Experiments and certificates


def _make_experiment(folder: Path) -> None:
    claim(folder, SETTINGS)
    results = [build_result(s, d, s > 0) for d in ("no_attack", "none", "diffusion") for s in range(3)]
    write_results(folder / "results.jsonl", results)
    write_json(folder / "provenance.json", provenance("cpu", 1))
    (folder / "config.yaml").write_text("seed: 0\n")
    save_poisons(_poisons(trigger=False), folder / "poisons")
    rng = np.random.default_rng(0)
    groups = {name: rng.random((4, 6), np.float32) for name in ("base_class", "target_class", "poisons", "targets")}
    save_arrays(folder / "figures" / "features_none.npz", groups | {"shared": np.bool_(True)})
    save_arrays(folder / "figures" / "tested.npz", {"setup_000": _poisons(trigger=False).images.numpy()})
    photo(0).save(folder / "figures" / "base_poison_noised_denoised.png")


def _claim(folder: Path) -> None:
    claim(folder, SETTINGS)


def _certificate(folder: Path) -> CertifyTask:
    recipe = Recipe(epochs=1, batch_size=256)
    sizes: dict[str, Any] = {
        "m": [5],
        "models": 10,
        "alpha": 0.05,
        "test_images": 6,
        "members_per_block": 5,
        "feature_draws": 0,
    }
    names: dict[str, Any] = {"output_dir": str(folder), "name": "one", "wandb_project": None, "threads": 1}
    options = {"data": digits(), "sigma": [0.2], "defense": "noise_only", "recipe": recipe, "feature_recipe": recipe}
    return from_flat(CertifyTask, options | sizes | names)


def _make_certificate(folder: Path) -> None:
    certify(plan_certificate(_certificate(folder)), ONE, "sigma: 0.2\n")


def _report_certificate(folder: Path) -> None:
    write_certificate_report(folder / "one")


def _make_votes(folder: Path) -> None:
    store = VoteStore(folder / "votes", VOTES, 6, 10)
    store.create()
    rng = np.random.default_rng(0)
    for block in (range(0, 3), range(3, 5)):
        marks = np.arange(block.start, block.stop, dtype=np.uint64)
        store.add(block, rng.integers(0, 10, (len(block), 6)).astype(np.uint16), marks)
    store.look(5)


def _read_votes(folder: Path) -> None:
    store = VoteStore(folder / "votes", VOTES, 6, 10)
    store.create()
    store.done(0, 5)
    store.read(0, 5)
    store.look(4)


# Networks


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


# The public benchmark


def _make_setups(folder: Path) -> None:
    train, test = digits().split("train").labels.numpy(), digits().split("test").labels.numpy()
    setups = draw_setups(train, test, num_setups=2, num_poisons=3, seed=0)

    def entry(setup: Setup, blank: str) -> dict[str, Any]:
        named = {"target class": setup.target_label, "target index": setup.target_index, "base class": setup.adversarial_label}
        named["base indices"] = setup.base_indices.tolist()
        return {key.replace(" ", blank): value for key, value in named.items()}

    write_json(folder / "setups.json", {"setups": [entry(setup, "_") for setup in setups]})
    (folder / "setups.pickle").write_bytes(pickle.dumps([entry(setup, " ") for setup in setups]))


def _setups(name: str) -> Read:
    def read(folder: Path) -> None:
        train, test = digits().split("train").labels.numpy(), digits().split("test").labels.numpy()
        load_setups(folder / name, train, test, num_setups=2, train_size=None, seed=0)

    return read


def _make_benchmark(folder: Path) -> None:
    value = to_benchmark(_poisons(trigger=True))
    write_benchmark(folder, value)
    write_npz(folder / "poisons.npz", value)


def _read_benchmark_npz(folder: Path) -> None:
    read_npz(folder / "poisons.npz")


# Images and labels

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP", "tiff": "TIFF", "gif": "GIF", "ppm": "PPM"}


def _make_images(folder: Path) -> None:
    for number, (suffix, form) in enumerate(FORMATS.items()):
        place = folder / "set" / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        photo(number, 12, 9).save(place / f"picture.{suffix}", form)
    deep = np.arange(108, dtype=np.uint16).reshape(9, 12) * 600
    Image.fromarray(deep).save(folder / "set" / "class0" / "deep.png")


def _read_images(folder: Path) -> None:
    data = ImageFolderDataModule("set", "set", size=8, root=str(folder))
    data.split("train")


def _sanitize_images(folder: Path) -> None:
    task = SanitizeTask(str(folder / "out"), SanitizeData(str(folder / "set"), 3), "noise_only", sigma=0.1, noise_seed=0)
    sanitize_alone(task, ONE)
    _check(folder / "out")


def _make_cache(folder: Path) -> None:
    write_photos(folder / "set", 4)
    for path in (folder / "set").rglob("*.png"):
        os.utime(path, (1, 1))
    _read_images(folder)
    (made,) = (folder / "set").glob(".decoded-*.npy")
    made.rename(folder / "cache.npy")


def _read_cache(folder: Path) -> None:
    probe = shutil.copytree(folder / "set", folder / "probe")
    ImageFolderDataModule("probe", "probe", size=8, root=str(folder)).split("train")
    (name,) = (path.name for path in probe.glob(".decoded-*.npy"))
    os.replace(folder / "cache.npy", folder / "set" / name)
    _read_images(folder)


def _make_pixels(folder: Path) -> None:
    PixelFile(folder / "pixels.npy").read_or_make(1000, lambda array: array.fill(7))


def _read_pixels(folder: Path) -> None:
    def fill(array: np.ndarray) -> None:
        array.fill(7)

    assert (PixelFile(folder / "pixels.npy").read_or_make(1000, fill) == 7).all()


def _make_arrays(folder: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8), np.arange(6) % 3
    save_arrays(folder / "set.npz", {"images": images, "labels": labels})


def _read_arrays(folder: Path) -> None:
    ArraysDataModule("set.npz", "set.npz", root=str(folder)).split("test")


def _sanitize_arrays(folder: Path) -> None:
    data = SanitizeData(str(folder / "set.npz"), 3)
    sanitize_alone(SanitizeTask(str(folder / "out.npz"), data, "noise_only", sigma=0.1, noise_seed=0, batch_size=4), ONE)


def _make_mnist(folder: Path) -> None:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("train", "t10k"):
        images = rng.integers(0, 256, (4, 28, 28), dtype=np.uint8)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, 4, 28, 28) + images.tobytes())
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 4) + bytes(range(4)))


def _read_mnist(folder: Path) -> None:
    data = MNISTDataModule(str(folder), public_size=2)
    for name in ("train", "test"):
        split = data.split(name)  # type: ignore[arg-type]
        assert split.images.shape[1:] == (1, 28, 28)


def _make_cifar(folder: Path) -> None:
    place = folder / "cifar-10-batches-py"
    place.mkdir()
    content = pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]})
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"):
        (place / name).write_bytes(content)


def _read_cifar(folder: Path) -> None:
    CIFAR10DataModule(str(folder)).split("train")


def _make_tiny_imagenet(folder: Path) -> None:
    for number, name in enumerate(("n01", "n02")):
        (folder / "train" / name / "images").mkdir(parents=True)
        photo(number).save(folder / "train" / name / "images" / "a.png")
    (folder / "val" / "images").mkdir(parents=True)
    photo(3).save(folder / "val" / "images" / "v.png")
    (folder / "val" / "val_annotations.txt").write_text("v.png\tn02\t0\t0\t62\t62\n")
    (folder / "wnids.txt").write_text("n01\nn02\n")


def _read_tiny_imagenet(folder: Path) -> None:
    data = TinyImageNetDataModule(str(folder), size=8)
    data.split("train"), data.split("test")


def _make_picture(folder: Path) -> None:
    photo(0).save(folder / "trigger.png")


def _read_picture(folder: Path) -> None:
    PatchTrigger(4, image=str(folder / "trigger.png")).build((3, 32, 32))


def _make_lease(folder: Path) -> None:
    (folder / "1.claim").write_text("elsewhere 12345")


def _read_lease(folder: Path) -> None:
    Leases(folder).claim("1")


MAKERS: dict[str, Read] = {
    "poison set": _make_poisons,
    "added trigger": _make_added,
    "sanitized set": _make_sanitized,
    "set in the making": lambda folder: _make_unfinished(folder, "out"),
    "array in the making": lambda folder: _make_unfinished(folder, "out.npz"),
    "set with a secret": lambda folder: _make_unfinished(folder, "out", None),
    "store": _make_store,
    "experiment": _make_experiment,
    "certificate": _make_certificate,
    "votes": _make_votes,
    "denoiser": _make_denoiser,
    "pipeline": _make_pipeline,
    "weights": _make_weights,
    "kept networks": _make_models,
    "checkpoint": _make_checkpoint,
    "setups": _make_setups,
    "benchmark poisons": _make_benchmark,
    "images": _make_images,
    "decoded images": _make_cache,
    "sanitized pixels": _make_pixels,
    "arrays": _make_arrays,
    "MNIST": _make_mnist,
    "CIFAR-10": _make_cifar,
    "Tiny ImageNet": _make_tiny_imagenet,
    "trigger": _make_picture,
    "lease": _make_lease,
}

_UNFINISHED = ("plan.json", "blocks/000000.csv", "files.txt", "files.npy", "outputs.txt", "outputs.npy")


def make_all(folder: Path) -> None:
    """One of each kind, in folders of their names."""
    numbers = itertools.count()
    fixed = {
        "randbits": lambda bits: next(numbers) + 7**20,
        "token_hex": lambda size=32: hashlib.sha256(str(next(numbers)).encode()).hexdigest()[: 2 * size],
    }
    with patch.multiple("secrets", **fixed):
        for kind, make in MAKERS.items():
            for name in ("", "poisons", "figures") if kind == "experiment" else ("",):
                (folder / kind / name).mkdir(parents=True, exist_ok=True)
            make(folder / kind)


def catalogue(folder: Path) -> list[Artefact]:
    """All files that are changed, in an order that is always the same.

    Args:
        folder: What :func:`make_all` made.
    """
    votes = "one/votes/sigma_0.2_m_5"
    secret = next((folder / "set with a secret").glob(".out.noise-*.json")).name
    found = [
        Artefact("poison set", "setup_000.safetensors", _read_poisons, _reseal_poisons, 10),
        Artefact("poison set", "setup_000.json", _read_poisons, None, 10),
        Artefact("added trigger", "setup_000.safetensors", _read_poisons, _reseal_poisons, 6),
        Artefact("added trigger", "setup_000.json", _read_poisons, None, 6),
        Artefact("sanitized set", "out/manifest.json", _verify, None, 6),
        Artefact("sanitized set", "out/manifest.json", _quality),
        Artefact("sanitized set", "out/rows.csv", _verify, _reseal_rows, 6),
        Artefact("sanitized set", "out/rows.csv", _quality, _reseal_rows),
        Artefact("sanitized set", "out/class0/0000.png", _verify),
        Artefact("sanitized set", "out/class0/0000.png", _quality),
        Artefact("sanitized set", "out.npz", _verify_npz, None, 8),
        Artefact("sanitized set", "out.npz", _quality_npz, None, 4),
        *(Artefact("set in the making", f"out/.unfinished/{name}", _resume("out")) for name in _UNFINISHED),
        Artefact("set in the making", ".out.inputs.npy", _resume("out")),
        *(
            Artefact("array in the making", f".out.npz.unfinished/{name}", _resume("out.npz"))
            for name in ("plan.json", "blocks/000001.csv", "files.npy", "labels.npy", "images.npy")
        ),
        Artefact("set with a secret", secret, _resume("out", None)),
        Artefact("store", "store/manifest.json", _read_store),
        Artefact("store", "store/images.npy", _read_store, _reseal_store),
        Artefact("experiment", "settings.json", _claim),
        Artefact("experiment", "results.jsonl", write_report, None, 6),
        Artefact("experiment", "provenance.json", write_report, None, 1),
        Artefact("experiment", "config.yaml", write_report, None, 1),
        Artefact("experiment", "poisons/setup_000.json", write_report, None, 2),
        Artefact("experiment", "figures/features_none.npz", write_report, None, 4),
        Artefact("experiment", "figures/tested.npz", write_report, None, 3),
        Artefact("experiment", "figures/base_poison_noised_denoised.png", write_report, None, 1),
        Artefact("certificate", "one/certificate.json", _report_certificate, None, 8),
        Artefact("certificate", "one/sigma_0.2_m_5.npz", _report_certificate, None, 5),
        *(
            Artefact("votes", f"votes/{name}", _read_votes, None, 6)
            for name in ("manifest.json", "votes_000000_000003.npz", "looks.json")
        ),
        *(Artefact("denoiser", name, _read_denoiser, None, 8) for name in ("config.json", "scheduler_config.json")),
        *(Artefact("denoiser", name, _read_denoiser) for name in ("training_rows.npy", "denoiser.json")),
        Artefact("denoiser", "diffusion_pytorch_model.safetensors", _read_denoiser, None, 6),
        Artefact("pipeline", "model_index.json", _read_denoiser),
        Artefact("pipeline", "unet/diffusion_pytorch_model.safetensors.index.json", _read_denoiser),
        Artefact("weights", "weights.safetensors", _read_weights, None, 6),
        Artefact("kept networks", "kept.safetensors", _read_models),
        Artefact("checkpoint", "model.ckpt", _read_checkpoint, None, 10),
        Artefact("setups", "setups.json", _setups("setups.json"), None, 8),
        Artefact("setups", "setups.pickle", _setups("setups.pickle"), None, 8),
        *(
            Artefact("benchmark poisons", f"{name}.pickle", read_benchmark, None, 4)
            for name in ("poisons", "base_indices", "target")
        ),
        Artefact("benchmark poisons", "poisons.npz", _read_benchmark_npz, None, 10),
        *(
            Artefact("images", f"set/class{number % 2}/picture.{suffix}", read)
            for number, suffix in enumerate(FORMATS)
            for read in (_read_images, _sanitize_images)
        ),
        Artefact("images", "set/class0/deep.png", _read_images),
        Artefact("decoded images", "cache.npy", _read_cache),
        Artefact("sanitized pixels", "pixels.npy", _read_pixels),
        Artefact("arrays", "set.npz", _read_arrays, None, 8),
        Artefact("arrays", "set.npz", _sanitize_arrays, None, 4),
        *(
            Artefact("MNIST", f"MNIST/raw/{name}-ubyte", _read_mnist)
            for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3")
        ),
        Artefact("CIFAR-10", "cifar-10-batches-py/data_batch_1", _read_cifar, None, 1),
        *(Artefact("Tiny ImageNet", name, _read_tiny_imagenet) for name in ("wnids.txt", "val/val_annotations.txt")),
        Artefact("trigger", "trigger.png", _read_picture),
        Artefact("lease", "1.claim", _read_lease, None, 1),
    ]
    assert (folder / "certificate" / votes).is_dir()
    missing = [artefact.name for artefact in found if not (folder / artefact.kind / artefact.file).is_file()]
    assert not missing, missing
    return found
