"""What an option takes, in words, and an example of it, from its type."""

import argparse
import dataclasses
import difflib
import inspect
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_WORDS = {
    int: ("a whole number", "8"),
    float: ("a number", "0.25"),
    bool: ("true or false", "true"),
    str: ("text", "NAME"),
    dict: ("a mapping", "{a: 1}"),
    type(None): ("null", "null"),
}
_SHOWN = 12


def hint_of(parser: argparse.ArgumentParser, key: str, owner: type | None) -> Any:
    """Type of an option, or None where it is not known.

    Args:
        parser: Whose option it is.
        key: Its name, such as ``trainer.devices``.
        owner: The class of which the last part of the name is an argument, if it is one that the user chose.
    """
    for action in parser._actions:
        if action.dest == key or f"--{key}" in action.option_strings:
            return getattr(action, "_typehint", None) or action.type
        if isinstance(action.choices, dict):
            for sub in action.choices.values():
                found = hint_of(sub, key, None)
                if found is not None:
                    return found
    return argument_type(owner, key.rpartition(".")[2]) if owner is not None else None


def argument_type(owner: type, name: str) -> Any:
    """Type of an argument of a class or of the class that it has it from; None where it is not known."""
    for kind in owner.__mro__:
        if "__init__" in vars(kind):
            try:
                hints = get_type_hints(kind.__init__)  # type: ignore[misc]
            # A class of the user's may name what is imported for type checkers alone.
            except (NameError, TypeError):
                continue
            if name in hints:
                return hints[name]
    return None


def parameters(owner: type) -> list[str]:
    """Names of a class's arguments, those of its bases included."""
    names: list[str] = []
    for kind in owner.__mro__:
        if "__init__" in vars(kind):
            names += [name for name in inspect.signature(kind.__init__).parameters if name not in ("self", "args", "kwargs")]  # type: ignore[misc]
    return list(dict.fromkeys(names))


def describe(hint: Any, given: str | None = None) -> str:
    """What an option of this type takes, such as ``a whole number or null``."""
    if get_origin(hint) in (Union, types.UnionType):
        kinds = get_args(hint)
        literals = [c for part in kinds if get_origin(part) is Literal for c in get_args(part)]
        rest = [part for part in kinds if get_origin(part) is not Literal and not _is_path(part)]
        # What may be one or several is said once.
        rest = [part for part in rest if not (_is_list(part) and set(get_args(part)) & set(rest))]
        parts = [describe(part, given) for part in rest]
        return " or ".join(dict.fromkeys([*([_one_of(literals)] if literals else []), *parts]))
    if get_origin(hint) is Literal:
        return _one_of(get_args(hint))
    if _is_list(hint):
        inner = [part for part in get_args(hint) if part is not ...]
        return f"a list of {_several(describe(inner[0], given))}" if inner else "a list"
    if hint in _WORDS:
        return _WORDS[hint][0]
    if dataclasses.is_dataclass(hint) or get_origin(hint) is dict:
        return "a mapping of its options to values, or each option by itself"
    if inspect.isclass(hint):
        names = class_names(hint)
        near = difflib.get_close_matches(given or "", names, 3) if len(names) > _SHOWN else names
        return "the name of a class" + (f" ({', '.join(near)})" if near else "")
    return "a mapping, or each of its options by itself"


def example_of(parser: argparse.ArgumentParser, key: str, hint: Any, given: str | None = None) -> str:
    """``--key VALUE`` with the option's default where it says more than its type."""
    if hint is None:
        inner = [name for action in parser._actions for name in action.option_strings if name.startswith(f"--{key}.")]
        if f"--{key}.build" in inner:
            # Of a network, one word is enough.
            return f"--{key}{example_of(parser, f'{key}.build', str).removeprefix(f'--{key}.build')}"
        if inner:
            return example_of(parser, inner[0].removeprefix("--"), hint_of(parser, inner[0].removeprefix("--"), None))
    default = next((a.default for a in parser._actions if f"--{key}" in a.option_strings), None)
    plain = isinstance(default, int | float | str) and not isinstance(default, bool) and default != "==SUPPRESS=="
    if plain and (given is None or get_origin(hint) is not Literal):
        return f"--{key} {default}"
    return f"--{key} {'FILE.yaml' if key == 'config' else example(hint, given)}"


def example(hint: Any, given: str | None = None) -> str:
    """A value of this type as one would type it, near to what was typed."""
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [part for part in get_args(hint) if part is not type(None) and not _is_path(part)]
        classes = [part for part in kinds if part not in _WORDS]
        return example((classes or kinds)[0], given) if kinds else "null"
    if get_origin(hint) is Literal:
        choices = [str(choice) for choice in get_args(hint)]
        return (difflib.get_close_matches(given or "", choices, 1) or choices)[0]
    if _is_list(hint):
        inner = [part for part in get_args(hint) if part is not ...]
        return f"[{example(inner[0], (given or '').strip('[]'))}]" if inner else "[1]"
    if hint in _WORDS:
        return _WORDS[hint][1]
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _quoted(f"{{{next((f.name for f in dataclasses.fields(hint)), 'name')}: VALUE}}")
    if inspect.isclass(hint):
        names = class_names(hint)
        return (difflib.get_close_matches(given or "", names, 1) or names or ["NAME"])[0]
    return "VALUE"


def class_names(base: type) -> list[str]:
    """Names of the classes that can stand for ``base``, of those that are imported, in alphabetical order."""
    return sorted({kind.__name__ for kind in descendants(base) if kind is not base}) or [base.__name__]


def descendants(base: type) -> list[type]:
    """The classes that can stand for ``base``, itself included, of those that are imported."""
    found: dict[type, None] = {}
    rest = [base]
    while rest:
        kind = rest.pop()
        rest += kind.__subclasses__() if kind is not type else []
        if not inspect.isabstract(kind) and not kind.__name__.startswith("_"):
            found[kind] = None
    return sorted(found, key=lambda kind: (kind.__name__, kind.__module__))


def _one_of(choices: Any) -> str:
    return f"one of {', '.join(dict.fromkeys(str(choice) for choice in choices))}"


def _several(text: str) -> str:
    words = {"a whole number": "whole numbers", "a number": "numbers", "text": "words"}
    return words.get(text, text.replace("one of", "any of", 1))


def _is_list(hint: Any) -> bool:
    origin = get_origin(hint) or hint
    return inspect.isclass(origin) and origin is not str and origin.__name__ in ("list", "Iterable", "Sequence", "tuple", "set")


def _is_path(hint: Any) -> bool:
    return inspect.isclass(hint) and hint.__name__.startswith("Path")


def _quoted(text: str) -> str:
    return f"'{text}'"
