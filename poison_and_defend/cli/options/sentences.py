"""From what an argument parser says about a wrong option to one sentence with the option and an example."""

import argparse
import importlib
import re
from collections.abc import Sequence
from typing import Any

from poison_and_defend.cli.options.arm_sentences import arm_sentence
from poison_and_defend.cli.options.option_types import describe, example_of, hint_of, parameters
from poison_and_defend.cli.options.wording import missing_options, no_value, stray_word, unknown_option, wrong_value

_CONFIG = "(--config FILE.yaml; COMMAND --print_config writes one)"
# Words of the parser itself, in no sentence of ours.
_INTERNAL = re.compile(r"<class|class_path|Namespace|NestedArg|Parser key|typing\.|Subtypes|dot import")


def sentence(parser: argparse.ArgumentParser, message: str, words: Sequence[str] = ()) -> str:
    """One line for whoever typed the option.

    Args:
        parser: Whose options they are.
        message: What jsonargparse or argparse would print.
        words: The command line, after presets became files.
    """
    text = " ".join(message.split())
    of_an_arm = arm_sentence(parser, message, words)
    if of_an_arm is not None:
        return " ".join(of_an_arm.split())
    for kind in (_config, _missing, _unknown, _no_value, _value):
        found = kind(parser, message)
        if found is not None:
            return " ".join(found.split())
    key = _key(message)
    about = f"--{key} cannot be understood" if key else "the options cannot be understood"
    return f"{about} (--help lists the options)" if _INTERNAL.search(text) else f"{text[:300]} (--help lists the options)"


def _key(message: str) -> str:
    """The option that a message is about, from the nested names in it."""
    parts: list[str] = []
    for part in re.findall(r'Parser key "([^"]+)"', message):
        if part in parts:
            break
        parts.append(part)
    key = ".".join(parts).replace(".init_args.", ".").removesuffix(".class_path")
    return re.sub(r"^(fit|validate|test|predict)\.", "", key)


def _config(parser: argparse.ArgumentParser, message: str) -> str | None:
    path = re.search(r'Parser key "config": (File does not exist|Path is not a file|.*?): ?\'?(.*?)\'?$', message)
    if path:
        kind = {"File does not exist": "there is no such file", "Path is not a file": "it is a folder or no regular file"}
        if "://" in path[2]:
            return f"the configuration {path[2]} is an address: local files alone are read (--config FILE.yaml)"
        return f"the configuration {path[2]} cannot be read: {kind.get(path[1], 'it cannot be opened')} (--config FILE.yaml)"
    if "Problems parsing config" in message:
        places = re.findall(r"line (\d+), column (\d+)", message)
        where = f" at line {places[-1][0]}, column {places[-1][1]}" if places else ""
        return f"the configuration is no YAML{where} {_CONFIG}"
    if "Unexpected config" in message:
        return f"the configuration is no mapping of options to values, such as `seed: 1` {_CONFIG}"
    return None


def _missing(parser: argparse.ArgumentParser, message: str) -> str | None:
    found = re.search(r"the following arguments are required: ([\w., ]+)", message)
    found = found or re.search(r'Key "([\w.]+)" is required', message)
    if not found:
        return None
    prefix = f"{_key(message)}." if _key(message) else ""
    names = [f"{prefix}{re.sub(r'^(fit|validate|test|predict)[.]', '', n.strip())}" for n in found[1].split(",")]
    # The parser keeps them in a set.
    names.sort()
    hints = {name: hint_of(parser, name, _class(message)) for name in names}
    return missing_options(names, [example_of(parser, name, hints[name]) for name in names])


def _unknown(parser: argparse.ArgumentParser, message: str) -> str | None:
    found = re.search(r"(?:not accept option|Option) '([\w.]+)'", message) if "accept" in message else None
    typed = re.search(r"unrecognized arguments: (\S+)", message)
    if typed and not typed[1].startswith("-"):
        return stray_word(typed[1])
    if not found and not typed:
        return None
    group = re.search(r"Group '([\w.]+)'", message)
    prefix = _key(message) or (group[1] if group else "")
    name = found[1] if found else typed[1].lstrip("-").partition("=")[0]  # type: ignore[index]
    name = name.replace("init_args.", "")
    owner = _class(message)
    known = [f"{prefix}.{own}" if prefix else own for own in parameters(owner)] if owner else options_of(parser)
    option = f"{prefix}.{name}" if prefix else name
    show = lambda near: example_of(parser, near, hint_of(parser, near, owner))  # noqa: E731
    return unknown_option(option, owner.__name__ if owner else None, known, show)


def _no_value(parser: argparse.ArgumentParser, message: str) -> str | None:
    found = re.search(r"argument ([-\w./]+): expected (?:one|at least one) argument", message)
    if not found:
        return None
    option = found[1].split("/")[-1]
    key = option.lstrip("-")
    return no_value(key, example_of(parser, key, hint_of(parser, key, None)))


def _value(parser: argparse.ArgumentParser, message: str) -> str | None:
    key = _key(message)
    if not key:
        return None
    given = _given(message)
    owner = _class(message)
    abstract = re.search(r"Expected an instantiatable class, but (\w+) is abstract", message)
    hint = hint_of(parser, key, owner)
    takes, shown = describe(hint, given), example_of(parser, key, hint, given)
    if abstract:
        return f"--{key} is {abstract[1]}, which is abstract: it takes {takes}, for example {shown}"
    return wrong_value(key, given, takes, shown)


def _given(message: str) -> str | None:
    """The value as it was typed, if the message shows one that is no object of the parser's."""
    nested = re.findall(r"NestedArg\(key='[\w.]+', val='(.*?)'\)", message)
    patterns = (
        r"Got value: (.*)",
        r"given class_path '([^']+)':\s*(?:No module|module|Import)",
        r"dot import path string: (.*)",
        r"Given value: (.*)",
        r"Unable to load config ['\"](.*?)['\"]",
        r"key \"[\w.]+\": (\S+) not among choices",
    )
    for pattern in patterns:
        found = re.search(pattern, message)
        if found and not _INTERNAL.search(found[1]):
            return found[1].strip().strip("'")
    return str(nested[0]) if nested else None


def _class(message: str) -> type | None:
    """The class whose options a message is about; the parser has imported it."""
    found = re.findall(r"Problem with given class_path '([\w.]+)'", message)
    if not found:
        return None
    module, _, name = found[0].rpartition(".") if "Parser key" not in message.split(found[0])[-1] else found[-1].rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except (ImportError, ValueError):
        return None


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    """Names of a parser's options, those of its commands included."""
    own = [name.lstrip("-") for action in parser._actions for name in action.option_strings if name.startswith("--")]
    return [*own, *(name for sub in subparsers(parser) for name in options_of(sub))]


def subparsers(parser: argparse.ArgumentParser) -> list[Any]:
    """The parsers of a parser's commands."""
    return [sub for action in parser._actions if isinstance(action.choices, dict) for sub in action.choices.values()]
