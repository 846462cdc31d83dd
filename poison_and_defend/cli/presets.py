"""Named attack presets: what ``--attack NAME`` stands for on the command line."""

import re
from pathlib import Path

from poison_and_defend.core.errors import InputError

_ROOT = Path(__file__).resolve().parent.parent
# attacks.bullseye_polytope.BullseyePolytope, but not benchmark/bullseye_polytope.yaml.
_CLASS_PATH = re.compile(r"\w+(\.\w+)*\.[A-Z]\w*")

TRANSFER_ATTACKS = ",".join(
    f"benchmark/{name}"
    for name in ("poison_frogs", "convex_polytope", "bullseye_polytope", "label_consistent", "hidden_trigger")
)
"""The transfer track's five, under the public benchmark's settings."""


def expand_presets(arguments: list[str]) -> list[str]:
    """Turn ``--attack NAME`` into the preset ``configs/attack/NAME.yaml``, which comes before all overrides."""
    rest, presets = [], []
    words = iter(arguments)
    for word in words:
        name = None
        if word == "--attack":
            name = next(words, "")
        elif word.startswith("--attack="):
            name = word.partition("=")[2]
        # A class name or a dictionary is jsonargparse's business.
        if name is None or name[:1].isupper() or name.startswith("{") or _CLASS_PATH.fullmatch(name):
            rest += [word] if name is None else ["--attack", name]
        else:
            presets += ["--config", str(_preset(name))]
    return presets + rest


def _preset(name: str) -> Path:
    """The file of a preset: one of the project's by name, such as ``benchmark/poison_frogs``, or any YAML file by path."""
    folder = _ROOT / "configs" / "attack"
    known = {str(path.relative_to(folder).with_suffix("")): path for path in sorted(folder.rglob("*.yaml"))}
    if name.endswith(".yaml") and Path(name).is_file():
        return Path(name)
    if name not in known and not known:
        raise InputError(
            f"the attack {name!r} is a preset, and there are no presets in {folder}: give a YAML file by its path, or a class "
            "and its options, for example --attack BullseyePolytope --attack.eps 8/255 (--attack)"
        )
    if name not in known:
        raise InputError(f"{name!r} is not an attack: choose from {', '.join(known)} (--attack)")
    return known[name]
