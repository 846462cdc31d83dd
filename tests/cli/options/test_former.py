"""Old names of classes still mean the same ones."""

import importlib
from pathlib import Path

import pytest
import yaml

from poison_and_defend.cli.options.former import current_class, current_classes, current_options, current_preset

RECORDS = sorted((Path(__file__).resolve().parents[3] / "docs" / "records").rglob("config.yaml"))


def class_paths(value) -> set[str]:
    if isinstance(value, dict):
        own = {value["class_path"]} if "class_path" in value else set()
        return own.union(*map(class_paths, value.values()))
    return set().union(*map(class_paths, value)) if isinstance(value, list) else set()


def found(path: str) -> type:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_every_class_that_a_recorded_configuration_names_is_there(monkeypatch) -> None:
    named = {path: class_paths(current_classes(yaml.safe_load(path.read_text()))) for path in RECORDS}
    assert len(RECORDS) > 30 and len(set().union(*named.values())) >= 10
    for path, classes in named.items():
        with monkeypatch.context() as patch:
            # A class of a record's own lies beside it.
            beside = sorted(path.parents[1].glob("*.py"))
            patch.syspath_prepend(path.parents[1])
            assert all(isinstance(found(name), type) for name in classes), path
            assert {name for name in classes if not name.startswith("poison_and_defend.")} <= {
                f"{file.stem}.{file.stem.capitalize()}" for file in beside
            }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("attacks.BullseyePolytope", "attacks.BullseyePolytope"),
        ("attacks.bullseye_polytope.BullseyePolytope", "attacks.bullseye_polytope.BullseyePolytope"),
        ("attacks.trigger.PatchTrigger", "attacks.threat.trigger.PatchTrigger"),
        ("datamodules.poisoned.PoisonedDataModule", "datamodules.wrappers.poisoned.PoisonedDataModule"),
        ("stages.train_denoiser.PublicDataModule", "datamodules.wrappers.public.PublicDataModule"),
        ("callbacks.QuietWandbLogger", "callbacks.QuietWandbLogger"),
        ("lightning_modules.ClassifierModule", "lightning_modules.ClassifierModule"),
        ("defenses.sanitizer.DiffusionSanitizer", "transforms.sanitizer.DiffusionSanitizer"),
    ],
)
def test_an_old_class_path_is_the_class_where_it_is_now(old, new) -> None:
    assert current_class(old) == f"poison_and_defend.{new}"
    assert isinstance(found(current_class(old)), type)


@pytest.mark.parametrize("word", ["mine.attacks.Own", "attacks", "attacks.npz", "DigitsDataModule", "--data", "attacks/X.Y"])
def test_what_never_was_a_name_of_ours_is_left_alone(word) -> None:
    assert current_class(word) == word


def test_presets_lose_what_they_were_in_a_clone() -> None:
    assert current_preset("./configs/trainer/gpu.yaml") == current_preset("trainer/gpu") == "trainer/gpu"


def test_old_options_are_renamed_where_the_new_ones_are_known_and_nowhere_else() -> None:
    known = {"network", "network.build", "networks", "surrogate_networks"}
    old = {"backbone": "vgg11", "surrogate_backbones": ["convnet"], "networks": {"mine": "timm:x", "b": {"size": 3}}}
    new = {
        "network": {"build": "vgg11"},
        "surrogate_networks": ["convnet"],
        "networks": {"mine": {"build": "timm:x"}, "b": {"size": 3}},
    }
    assert current_options(old, known) == new == current_options(new, known)
    assert current_options({"backbone": "vgg11"}, {"backbone", "network", "network.build"}) == {"backbone": "vgg11"}
    assert current_options({"backbone": "vgg11", "network": "mine"}, {"depth"}) == {"backbone": "vgg11", "network": "mine"}
