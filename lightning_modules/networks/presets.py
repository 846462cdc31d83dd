"""Networks by one word: the package's presets in ``configs/network``."""

from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@cache
def network_presets() -> dict[str, dict[str, Any]]:
    """Options of a network by the name of its preset, such as ``efficientnet_lite0``."""
    folder = files("poison_and_defend") / "configs" / "network"
    found = {entry.name.removesuffix(".yaml"): entry for entry in folder.iterdir() if entry.name.endswith(".yaml")}
    return {name: yaml.safe_load(found[name].read_text(encoding="utf-8")) for name in sorted(found)}
