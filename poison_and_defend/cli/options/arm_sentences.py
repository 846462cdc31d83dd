"""What a parser says about an arm, with the arm's name, which the parser leaves out."""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from poison_and_defend.cli.options.arms import CHAIN, configured_arms, steps_of
from poison_and_defend.cli.options.configs import preset_names
from poison_and_defend.cli.options.option_types import argument_type, describe, example, example_of, parameters
from poison_and_defend.cli.options.presets import config_path
from poison_and_defend.cli.options.wording import missing_options, suggestion, unknown_option, wrong_value
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.foreign import import_named

_KINDS = "a subclass of Rewriter, Filter, Training or Voting is needed"
_NOT_OF_THE_USER = {"Defense", "Chain", "NoneType"}


@dataclass(frozen=True)
class Given:
    """What was typed.

    Attributes:
        arms: Countermeasures by the names of arms, as configurations hold them.
        options: Of single arms, such as ``--arms.jpeg.quality``.
    """

    arms: Mapping[str, Any]
    options: Sequence[str]

    @classmethod
    def of(cls, words: Sequence[str]) -> "Given":
        """From a command line whose ``--defenses`` has become ``--arms``."""
        arms: dict[str, Any] = {}
        options: list[str] = []
        for number, word in enumerate(words):
            option, joined, value = word.partition("=")
            value = value if joined else "".join(words[number + 1 : number + 2])
            if option == "--config":
                arms |= _configured(Path(config_path(value)))
            elif option == "--arms":
                arms |= _mapping(value)
            elif option.startswith("--arms."):
                options.append(option.replace(".init_args.", "."))
                if options[-1].count(".") == 1:
                    arms[option.removeprefix("--arms.")] = {"class_path": value}
        return cls(arms, options)

    def option(self, path: str, argument: str | None = None) -> str | None:
        """The option of the countermeasure of a class path, of whichever arm has it, and this argument."""
        typed = next((option for option in self.options if argument and option.endswith(f".{argument}")), None)
        if typed is not None and argument is not None:
            return typed.removesuffix(f".{argument}")
        for name, value in self.arms.items():
            chained = isinstance(value, dict) and value.get("class_path") in (CHAIN, "Chain")
            steps = (value.get("init_args") or {}).get("steps", []) if chained else [value]
            for place, step in enumerate(steps):
                if not isinstance(step, dict) or _last(str(step.get("class_path"))) != _last(path):
                    continue
                if argument is None or argument in (step.get("init_args") or {}):
                    names = steps_of(name)
                    return f"--arms.{name}.{names[place]}" if chained and len(names) == len(steps) else f"--arms.{name}"
        return None


def arm_sentence(parser: argparse.ArgumentParser, message: str, words: Sequence[str]) -> str | None:
    """One sentence about an arm that cannot be; None if the message is about something else.

    Args:
        parser: Whose options they are.
        message: What jsonargparse would print.
        words: The command line, after presets became files.
    """
    if 'Parser key "arms"' not in message:
        return None
    given = Given.of(words)
    foreign = re.search(r"Import path ([\w.]+) does not correspond to a subclass of", message)
    if foreign:
        return f"{foreign[1]} is no countermeasure: {_KINDS} ({given.option(foreign[1]) or '--arms'}, --defenses)"
    abstract = re.search(r"Expected an instantiatable class, but ([\w.]+) is abstract", message)
    if abstract:
        kind = import_named(abstract[1], "--arms")
        lacks = ", ".join(sorted(getattr(kind, "__abstractmethods__", ()))) or "methods of its kind"
        return f"{abstract[1]} is abstract: it does not define {lacks} ({given.option(abstract[1]) or '--arms'}, --defenses)"
    paths = re.findall(r"Problem with given class_path '([\w.]+)'", message)
    # What a file raises that is no Python says nothing of the class.
    paths = paths or re.findall(r"class_path': '([\w.]+)'", message)
    if not paths:
        return None
    path, about = paths[-1], message.rpartition(f"Problem with given class_path '{paths[-1]}'")[2]
    unwanted = re.search(r"Option '([\w.]+)' is not accepted", about)
    if unwanted and _last(path) in _NOT_OF_THE_USER:
        return _no_arm(given, unwanted[1])
    try:
        owner = import_named(path, f"{given.option(path) or '--arms'}, --defenses")
    except InputError as error:
        return str(error)
    if not isinstance(owner, type):
        return f"{path} is no countermeasure: {_KINDS} ({given.option(path) or '--arms'}, --defenses)"
    if unwanted:
        prefix = (given.option(path, unwanted[1]) or "--arms").removeprefix("--")
        known = parameters(owner)
        show = lambda name: f"--{name} {example(argument_type(owner, _last(name)))}"  # noqa: E731
        return unknown_option(f"{prefix}.{unwanted[1]}", owner.__name__, [f"{prefix}.{name}" for name in known], show)
    missing = re.search(r'arguments are required: ([\w, ]+)|Key "([\w.]+)" is required', about)
    if missing:
        prefix = (given.option(path) or "--arms").removeprefix("--")
        names = [name.strip() for name in (missing[1] or missing[2]).split(",")]
        shown = [f"--{prefix}.{name} {example(argument_type(owner, name))}" for name in names]
        return missing_options([f"{prefix}.{name}" for name in names], shown)
    argument = re.search(r'Parser key "(\w+)"', about)
    if argument is None:
        return None
    typed = re.search(r"(?:Got value|Given value): (.*)", about)
    hint = argument_type(owner, argument[1])
    name = f"{(given.option(path, argument[1]) or '--arms').removeprefix('--')}.{argument[1]}"
    value = typed[1].strip() if typed else None
    return wrong_value(name, value, describe(hint, value), example_of(parser, name, hint or str, value))


def _no_arm(given: Given, argument: str) -> str:
    """Of an option of an arm that nobody named."""
    option = next((own for own in given.options if own.endswith(f".{argument}")), f"--arms.NAME.{argument}")
    name = option.removeprefix("--arms.").removesuffix(f".{argument}")
    near = suggestion(name, given.arms or preset_names("defense"))
    return f"there is no arm {name}{near or ': --defenses [none,jpeg] names arms'} ({option})"


def _configured(path: Path) -> dict[str, Any]:
    try:
        found = configured_arms(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, InputError, AttributeError):
        return {}
    arms = found.get("arms")
    return arms if isinstance(arms, dict) else {}


def _mapping(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _last(path: str) -> str:
    return path.rpartition(".")[2]
