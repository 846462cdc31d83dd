"""Arms by the names of presets: what ``--defenses [none,jpeg,diffusion+mixup]`` stands for.

A configuration may say the same under ``defenses``. Either becomes the option ``--arms``, whose value is a mapping from names
to countermeasures and their options.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from poison_and_defend.cli.options.configs import CONFIGS, preset_names
from poison_and_defend.cli.options.former import CLASS_PATH
from poison_and_defend.cli.options.wording import suggestion
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import read_text

CHAIN = "poison_and_defend.defenses.Chain"
_OPTION = "--defenses"


def arms_of(names: Sequence[Any]) -> dict[str, Any]:
    """Arms by name, as ``--arms`` takes them.

    Args:
        names: Of presets, YAML files or class paths; several joined by ``+`` are a chain.

    Raises:
        InputError: If one is none of these, or is named twice.
    """
    if not isinstance(names, list) or not names:
        raise InputError(f"defenses are {names}: name at least one, for example {_OPTION} [none,diffusion] ({_OPTION})")
    arms: dict[str, Any] = {}
    for word in map(str, names):
        parts = [part.strip() for part in word.split("+")]
        name = "+".join(_short(part) for part in parts)
        if name in arms:
            raise InputError(f"the arm {name} is named twice: name each once ({_OPTION})")
        values = [_value(part) for part in parts]
        arms[name] = values[0] if len(parts) == 1 else _chain(values)
    return arms


def typed_arms(arguments: Sequence[str]) -> list[str]:
    """Arguments with ``--defenses`` as ``--arms``, before whatever changes one of the arms.

    Raises:
        InputError: If a preset is not there.
    """
    rest: list[str] = []
    given: dict[str, Any] | None = None
    words = iter(arguments)
    for word in words:
        option, joined, value = word.partition("=")
        if option != _OPTION:
            rest.append(word)
            continue
        value = value if joined else next(words, "")
        if not value:
            return [*rest, option]
        given = arms_of(_listed(value))
    if given is None:
        return rest
    own, others = _split(rest)
    changes = [change for change in own if not _absorbed(change, given)]
    return [*others, f"--arms={json.dumps(given)}", *(word for change in changes for word in change)]


def configured_arms(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with ``defenses`` as ``arms``; arms that it has besides are added, or replace those of their name."""
    names = config.get("defenses")
    if not isinstance(names, list):
        return config
    rest = {key: value for key, value in config.items() if key != "defenses"}
    return {**rest, "arms": {**arms_of(names), **(config.get("arms") or {})}}


def steps_of(name: str) -> list[str]:
    """Names of the steps of an arm that ``--defenses`` names."""
    return [part for part in name.split("+") if part not in ("none", "no_attack")]


def _short(part: str) -> str:
    """The name of one step in its arm's name."""
    if CLASS_PATH.fullmatch(part):
        return part.rpartition(".")[2]
    return Path(part).stem if part.endswith(".yaml") else part


def _value(part: str) -> Any:
    """What a preset, a YAML file or a class path says."""
    if part in preset_names("defense"):
        return _read(CONFIGS / "defense" / f"{part}.yaml")
    if part.endswith(".yaml") and Path(part).is_file():
        return _read(Path(part))
    if CLASS_PATH.fullmatch(part):
        return {"class_path": part}
    known = preset_names("defense")
    told = suggestion(part, known) or f": choose from {', '.join(known)}, a YAML file by its path, or a class by its path"
    raise InputError(f"{part!r} is not a countermeasure{told} ({_OPTION})")


def _read(path: Path) -> Any:
    try:
        value = yaml.safe_load(read_text(path, "no countermeasure", _OPTION))
    except yaml.YAMLError as error:
        raise InputError(f"cannot read {path}: {' '.join(str(error).split())[:200]} ({_OPTION})") from error
    if value is None or (isinstance(value, dict) and isinstance(value.get("class_path"), str)):
        return value
    raise InputError(f"{path} is no countermeasure: it needs a class_path and may have init_args ({_OPTION})")


def _chain(values: Sequence[Any]) -> dict[str, Any]:
    """Several as one; the undefended run adds nothing, and that without attack leaves the set unpoisoned."""
    steps: list[Any] = []
    attacked = True
    for value in values:
        inner = (value or {}).get("init_args", {})
        if value is None:
            continue
        if value["class_path"] in (CHAIN, "Chain"):
            attacked = attacked and inner.get("attacked", True)
            steps += inner.get("steps", [])
        else:
            steps.append(value)
    return {"class_path": CHAIN, "init_args": {"steps": steps, "attacked": attacked}}


def _listed(value: str) -> Any:
    try:
        found = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"defenses are {value!r}: write a list such as [none,diffusion] ({_OPTION})") from error
    return found.split(",") if isinstance(found, str) else found


def _split(words: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """Changes of arms, each with its value, and all other words."""
    own: list[list[str]] = []
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        if not word.startswith("--arms"):
            others.append(word)
        elif "=" in word:
            own.append([word])
        else:
            own.append([word, *([following] if (following := next(rest, None)) is not None else [])])
    return own, others


def _absorbed(change: Sequence[str], arms: dict[str, Any]) -> bool:
    """Whether a change was of one step of a chain, ``--arms.diffusion+mixup.mixup.alpha 0.2``, and has been made."""
    option, joined, value = change[0].partition("=")
    value = value if joined else (change[1] if len(change) > 1 else "")
    for name, arm in arms.items():
        prefix = f"--arms.{name}."
        if "+" not in name or not option.startswith(prefix):
            continue
        step, _, argument = option.removeprefix(prefix).partition(".")
        places = steps_of(name)
        if not argument or step not in places:
            raise InputError(
                f"{option} names no step of the arm {name}: choose from {', '.join(places)}, for example "
                f"{prefix}{places[0]}.OPTION VALUE ({option})"
            )
        chosen = arm["init_args"]["steps"][places.index(step)]
        chosen.setdefault("init_args", {})[argument.removeprefix("init_args.")] = yaml.safe_load(value)
        return True
    return False
