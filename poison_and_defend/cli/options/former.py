"""What classes, options and presets were called before, so that old commands and recorded configurations still work."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from poison_and_defend.core.errors import InputError

_ROOMS = ("attacks", "callbacks", "datamodules", "defenses", "lightning_modules")
# Modules that went to another place; the rest of those rooms only got the package's name before theirs.
_MOVED = {
    "attacks.trigger": "attacks.threat.trigger",
    "attacks.budget": "attacks.threat.budget",
    "attacks.setups": "attacks.threat.setups",
    "datamodules.poisoned": "datamodules.wrappers.poisoned",
    "datamodules.sanitized": "datamodules.wrappers.sanitized",
    "defenses.sanitizer": "transforms.sanitizer",
    "defenses.sanitized_dataset": "transforms.sanitized_dataset",
    "stages.train_denoiser": "datamodules.wrappers.public",
}
# poison_and_defend.attacks.BullseyePolytope, but not benchmark/bullseye_polytope.yaml.
CLASS_PATH = re.compile(r"\w+(\.\w+)*\.[A-Z]\w*")
_FORMER_PATH = re.compile(rf"(?P<module>(?:{'|'.join(_ROOMS)}|stages)(?:\.\w+)*)\.(?P<name>[A-Z]\w*)")

_ADVERSARIAL = "adversarial_"

OPTIONS = {
    "backbone": "network",
    "surrogate_backbones": "surrogate_networks",
    "root": "data.root",
    "follow_links": "data.follow_links",
    "limit": "sample",
    **{f"robust_recipe.adversarial_{name}": f"robust_training.{name}" for name in ("eps", "norm", "steps", "step_size")},
}
"""Options by the names that they had, or that other commands always called them by."""

_RECORDED = {"backbone": "network", "surrogate_backbones": "surrogate_networks"}
"""Options whose old names stand in configurations that were kept."""


def current_class(path: str) -> str:
    """A class path as it is now; what is none, or is new, comes back as it is."""
    found = _FORMER_PATH.fullmatch(path)
    if found is None:
        return path
    module = found["module"]
    return f"poison_and_defend.{_MOVED.get(module, module)}.{found['name']}"


def current_preset(path: str) -> str:
    """The name of a preset that was a file of the clone: ``configs/trainer/gpu.yaml`` is ``trainer/gpu``."""
    return path.removeprefix("./").removeprefix("configs/").removesuffix(".yaml")


def current_classes(value: Any) -> Any:
    """A configuration as YAML gave it, every class path in it as it is now."""
    if isinstance(value, dict):
        return _current_training({key: current_classes(part) for key, part in value.items()})
    if isinstance(value, list):
        return [current_classes(part) for part in value]
    return current_class(value) if isinstance(value, str) else value


def _current_training(config: dict[str, Any]) -> dict[str, Any]:
    """Adversarial training, whose arguments were a recipe's, as what it is now: a countermeasure of its own.

    Raises:
        InputError: If victims were to be trained by it: that is an arm now.
    """
    found = dict(config)
    for key, recipe in config.items():
        if not (key.endswith("recipe") and isinstance(recipe, dict)):
            continue
        own = {name.removeprefix(_ADVERSARIAL): part for name, part in recipe.items() if name.startswith(_ADVERSARIAL)}
        if not own:
            continue
        found[key] = {name: part for name, part in recipe.items() if not name.startswith(_ADVERSARIAL)}
        if own.get("eps") in (None, 0, 0.0, "0"):
            continue
        if key != "robust_recipe":
            raise InputError(
                f"adversarial training is no part of a recipe any more: it is a countermeasure, for example --defenses "
                f"[none,adversarial] (--{key}.adversarial_eps)"
            )
        found.setdefault("robust_training", {"class_path": "poison_and_defend.defenses.Adversarial", "init_args": own})
    return found


def current_options(values: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Options of a configuration as they are now, and a network that one word describes as options.

    Args:
        values: Options by name, as a file has them.
        known: Names of the options that there are, such as ``network.build``. What is called ``backbone`` by somebody else's
            class stays as it is.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        new = _RECORDED.get(name, name)
        name = name if name in known or not (new in known or f"{new}.build" in known) else new
        if f"{name}.build" in known and isinstance(value, str):
            value = described(value)
        elif name == "networks" and name in known and isinstance(value, Mapping):
            value = {own: described(part) if isinstance(part, str) else part for own, part in value.items()}
        found[name] = value
    return found


def described(word: str) -> Any:
    """The options of a network that is described by one word; a YAML file is read later."""
    return word if word.endswith((".yaml", ".yml")) else {"build": word}
