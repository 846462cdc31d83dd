"""A data set of the user's by the path of its class: what ``--data my_module.MyData --data.x 1`` stands for."""

import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from poison_and_defend.cli.options.former import CLASS_PATH, current_class
from poison_and_defend.cli.options.own_code import find_own_code

_ADAPTOR = "poison_and_defend.datamodules.OwnDataModule"
# Options that take a data set; another data set is the `source` of one that wraps it.
_NAMES = ("data", "source", "pretraining")
# What a data set of ours and a foreign one mean by one word; either is given it.
_SHARED = {"batch_size", "seed", "num_classes", "mean", "std"}
_OPTION = re.compile(rf"--((?:\w+\.)*(?:{'|'.join(_NAMES)}))")


def typed_data(arguments: Sequence[str]) -> list[str]:
    """Arguments in which every foreign data set is wrapped, and has its own options as its arguments.

    Raises:
        InputError: If a class that an option names cannot be imported, or is no data set.
    """
    words = list(arguments)
    for option, path in _named(words):
        words = _wrapped(words, option, path)
    return words


def takes_data(hint: Any) -> bool:
    """Whether an option of this type takes a data set."""
    # By its name: importing it takes seconds.
    return "datamodules.base.ArrayDataModule" in str(hint)


def configured_data(values: Mapping[str, Any], takers: Collection[str]) -> dict[str, Any]:
    """Options of a configuration, every foreign data set wrapped.

    Args:
        values: Options by name, as a file has them.
        takers: Names of those that take a data set.

    Raises:
        InputError: If a class that one names cannot be imported, or is no data set.
    """
    return {name: _adapted(value, name) if name in takers else value for name, value in values.items()}


def _named(words: Sequence[str]) -> list[tuple[str, str]]:
    """Options and class paths of foreign data sets."""
    given: dict[str, str] = {}
    for place, word in enumerate(words):
        option, joined, value = word.partition("=")
        if _OPTION.fullmatch(option):
            given[option.replace(".init_args", "")] = value if joined else (words[place + 1 : place + 2] or [""])[0]
    return [
        (option, path)
        for option, path in given.items()
        if given.get(option.removesuffix(".source"), "").rpartition(".")[2] != _ADAPTOR.rpartition(".")[2]
        and _is_foreign(path, option)
    ]


def _is_foreign(path: str, option: str) -> bool:
    if not CLASS_PATH.fullmatch(path) or current_class(path).startswith("poison_and_defend."):
        return False
    find_own_code(path)
    # Which takes seconds to import, and nobody else needs it.
    from poison_and_defend.datamodules import ArrayDataModule
    from poison_and_defend.datamodules.own import find_source

    return not issubclass(find_source(path, option), ArrayDataModule)


def _takes(path: str) -> tuple[set[str], set[str]]:
    """Names of the adaptor's arguments, and of those among them that a foreign class has too."""
    from poison_and_defend.datamodules.own import OwnDataModule, find_source

    ours = set(inspect.signature(OwnDataModule).parameters)
    return ours - {"source"}, _SHARED & set(inspect.signature(find_source(path, "--data")).parameters)


def _wrapped(words: Sequence[str], option: str, path: str) -> list[str]:
    ours, both = _takes(path)
    rest: list[str] = []
    todo = iter(words)
    for word in todo:
        typed, joined, value = word.partition("=")
        plain = typed.replace(".init_args", "")
        if plain == option:
            value = value if joined else next(todo, "")
            rest += [option, _ADAPTOR, f"{option}.source", path] if value == path else [option, value]
            continue
        name, dot, below = plain.removeprefix(f"{option}.").partition(".")
        if not plain.startswith(f"{option}.") or name == "help":
            rest.append(word)
            continue
        following = [] if joined else [next(todo, "")]
        tail = f"={value}" if joined else ""
        if name in ours:
            rest += [f"{option}.{name}{dot}{below}{tail}", *following]
        if name not in ours or name in both:
            rest += [f"{option}.arguments.{name}{dot}{below}{tail}", *following]
    return rest


def _adapted(value: Any, key: str) -> Any:
    """The value of an option that takes a data set."""
    # Of the parser a namespace, of a file a dictionary.
    given = {"class_path": value} if isinstance(value, str) else _dictionary(value)
    path = given.get("class_path")
    if not isinstance(path, str) or not _is_foreign(path, f"--{key}"):
        return value
    inner = _dictionary(given.get("init_args"))
    ours, both = _takes(path)
    own = {name: part for name, part in inner.items() if name in ours}
    theirs = {name: part for name, part in inner.items() if name not in ours or name in both}
    return {
        "class_path": _ADAPTOR,
        "init_args": {"source": path, **own, "arguments": {**(own.get("arguments") or {}), **theirs}},
    }


def _dictionary(value: Any) -> dict[str, Any]:
    plain = value.as_dict() if hasattr(value, "as_dict") else value
    return plain if isinstance(plain, dict) else {}
