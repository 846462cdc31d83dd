"""Presets by name: what ``--attack NAME`` and ``--config NAME`` stand for on the command line."""

import re
from pathlib import Path

from poison_and_defend.cli.options.arms import typed_arms
from poison_and_defend.cli.options.configs import CONFIGS, preset_names
from poison_and_defend.cli.options.former import CLASS_PATH, current_class, current_preset, described
from poison_and_defend.cli.options.own_code import find_own_code
from poison_and_defend.core.errors import InputError

# Options that one word describes: what a network is built from.
_NETWORK = re.compile(r"--((model\.(init_args\.)?)?network|networks\.\w[\w-]*)")

TRANSFER_ATTACKS = ",".join(
    f"benchmark/{name}"
    for name in ("poison_frogs", "convex_polytope", "bullseye_polytope", "label_consistent", "hidden_trigger")
)
"""The transfer track's five, under the public benchmark's settings."""


def config_path(name: str) -> str:
    """The file that ``--config`` names: a preset of the package, such as ``trainer/gpu``, or any file by its path."""
    if name in preset_names():
        return str(CONFIGS / f"{name}.yaml")
    former = current_preset(name)
    if former in preset_names() and not Path(name).exists():
        return str(CONFIGS / f"{former}.yaml")
    return name


def expand(arguments: list[str]) -> list[str]:
    """Turn names of presets into files: those of ``--attack`` come before all overrides; old names of classes into new ones.

    Names of ``--defenses`` become the option ``--arms``, and ``--network NAME`` is short for ``--network.build NAME``, of
    whichever option takes a network.

    Raises:
        InputError: If there is no such attack or countermeasure.
    """
    rest: list[str] = []
    presets: list[str] = []
    words = iter(typed_arms(arguments))
    for word in words:
        option, joined, value = word.partition("=")
        find_own_code(value if joined else word)
        if _NETWORK.fullmatch(option):
            value = value if joined else next(words, "")
            find_own_code(value)
            rest += [option if not value or value.startswith("{") or described(value) == value else f"{option}.build"]
            rest += [value] if value else []
            continue
        if option not in ("--attack", "--config"):
            rest.append(f"{option}={current_class(value)}" if joined else current_class(word))
            continue
        value = value if joined else next(words, "")
        find_own_code(value)
        if option == "--config" and not value:
            rest.append(option)
        elif option == "--config":
            rest += [option, config_path(value)]
        # A class name or a dictionary is jsonargparse's business.
        elif value[:1].isupper() or value.startswith("{") or CLASS_PATH.fullmatch(value):
            rest += [option, current_class(value)]
        else:
            presets += ["--config", str(_attack(value))]
    return presets + rest


def _attack(name: str) -> Path:
    """The file of an attack: one of the package's by name, such as ``benchmark/poison_frogs``, or any YAML file by path."""
    known = preset_names("attack")
    if name in known:
        return CONFIGS / "attack" / f"{name}.yaml"
    if name.endswith(".yaml") and Path(name).is_file():
        return Path(name)
    former = current_preset(name).removeprefix("attack/")
    if former in known:
        return CONFIGS / "attack" / f"{former}.yaml"
    stem = Path(former).name
    if former == f"paper/{stem}" and f"arguments/{stem}" in known:
        raise InputError(
            f"{name!r} is not here, since networks, data or victims of that paper are missing: take its attack's own arguments "
            f"with networks and victims of yours (--attack arguments/{stem})"
        )
    raise InputError(
        f"{name!r} is not an attack: choose from {', '.join(known)}, a YAML file by its path, or a class and its options, for "
        "example --attack BullseyePolytope --attack.eps 8/255 (--attack)"
    )
