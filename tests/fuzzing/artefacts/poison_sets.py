"""Poison sets, ours and those of the public benchmark, with its setups."""

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from poison_and_defend.attacks.threat.additive_trigger import AdditiveTrigger
from poison_and_defend.attacks.threat.setups import Setup, draw_setups
from poison_and_defend.core.files import write_json
from poison_and_defend.datamodules.wrappers.poisoned import PoisonedDataModule
from poison_and_defend.poisons.benchmark_files import read_benchmark, read_npz, write_benchmark, write_npz
from poison_and_defend.poisons.exchange import to_benchmark
from poison_and_defend.poisons.files import save_poisons
from poison_and_defend.poisons.setup_files import load_setups
from tests.fuzzing.artefacts.base import Artefact, Read, digits, small_poisons, suppress_input


def _make_poisons(folder: Path) -> None:
    save_poisons(small_poisons(trigger=True), folder)


def _make_added(folder: Path) -> None:
    """Poisons with one perturbation, which is the trigger too."""
    plain = small_poisons(trigger=False)
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
    value = to_benchmark(small_poisons(trigger=True))
    write_benchmark(folder, value)
    write_npz(folder / "poisons.npz", value)


def _read_benchmark_npz(folder: Path) -> None:
    read_npz(folder / "poisons.npz")


MAKERS: dict[str, Read] = {
    "poison set": _make_poisons,
    "added trigger": _make_added,
    "setups": _make_setups,
    "benchmark poisons": _make_benchmark,
}


def artefacts() -> list[Artefact]:
    """In an order that is always the same."""
    return [
        Artefact("poison set", "setup_000.safetensors", _read_poisons, _reseal_poisons, 10),
        Artefact("poison set", "setup_000.json", _read_poisons, None, 10),
        Artefact("added trigger", "setup_000.safetensors", _read_poisons, _reseal_poisons, 6),
        Artefact("added trigger", "setup_000.json", _read_poisons, None, 6),
        Artefact("setups", "setups.json", _setups("setups.json"), None, 8),
        Artefact("setups", "setups.pickle", _setups("setups.pickle"), None, 8),
        *(
            Artefact("benchmark poisons", f"{name}.pickle", read_benchmark, None, 4)
            for name in ("poisons", "base_indices", "target")
        ),
        Artefact("benchmark poisons", "poisons.npz", _read_benchmark_npz, None, 10),
    ]
