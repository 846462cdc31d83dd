"""What classes, options and presets were called before, so that old commands and recorded configurations still work."""

import re
from typing import Any

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
_CLASS_PATH = re.compile(rf"(?P<module>(?:{'|'.join(_ROOMS)}|stages)(?:\.\w+)*)\.(?P<name>[A-Z]\w*)")

OPTIONS = {
    "root": "data.root",
    "follow_links": "data.follow_links",
    "limit": "sample",
}
"""Options that other commands always called by the name on the right."""


def current_class(path: str) -> str:
    """A class path as it is now; what is none, or is new, comes back as it is."""
    found = _CLASS_PATH.fullmatch(path)
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
        return {key: current_classes(part) for key, part in value.items()}
    if isinstance(value, list):
        return [current_classes(part) for part in value]
    return current_class(value) if isinstance(value, str) else value
