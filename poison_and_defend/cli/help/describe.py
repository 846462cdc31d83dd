"""Writes the catalogue from the parsers themselves: ``python -m poison_and_defend.cli.help.describe``."""

import argparse
import inspect
import json
import re
import types
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from poison_and_defend.cli.help.catalogue import FOLDER, PACKAGE, Option, digest_of, installed
from poison_and_defend.cli.help.help_text import help_text
from poison_and_defend.cli.options.configs import CONFIGS
from poison_and_defend.cli.options.option_types import argument_type, descendants, describe, example
from poison_and_defend.cli.options.sentences import parameters
from poison_and_defend.cli.table import COMMANDS, LIGHTNING
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import write_bytes

_WORDS = {int: "int", float: "float", bool: "bool", type(None): "null"}
# Of a Trainer's and torch's own classes: too many to list, and not ours to describe.
_FOREIGN = ("torch", "lightning", "collections", "typing", "jsonargparse")


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser of a command with all its options."""
    module = COMMANDS[command].load()
    if command in LIGHTNING:
        found: argparse.ArgumentParser = module.parser_of(command)
        return found
    from poison_and_defend.cli.options.parsing import CommandParser

    parser = CommandParser.of(command, module.DEFAULTS)
    module.add_options(parser, ["--help"])
    return parser


def help_of(command: str, parser: argparse.ArgumentParser) -> str:
    """What ``--help`` prints of a command."""
    return help_text(command, parser, getattr(COMMANDS[command].load(), "DEFAULTS", None))


def describe_command(command: str) -> dict[str, Any]:
    """A command's catalogue as JSON can hold it."""
    parser = parser_of(command)
    options: dict[str, Any] = {}
    chosen: dict[str, str] = {}
    defaults = parser.get_defaults(skip_validation=True)  # type: ignore[attr-defined]
    writer = _Describer(_required(parser))
    for action in parser._actions:
        names = [name.removeprefix("--") for name in action.option_strings if name.startswith("--")]
        for name in names:
            hint = getattr(action, "_typehint", None) or action.type
            options[name] = writer.option(hint, action, names[0])
            kind = _class_of(defaults.get(name))
            if kind is not None:
                chosen[name] = kind
    for name, option in options.items():
        # Of a network, one word is enough.
        option["example"] = options.get(f"{name}.build", option)["example"]
    files = sorted(writer.files | _always(command))
    return {
        "files": files,
        "sources": digest_of(files),
        "lightning": installed("lightning") if "trainer.default_root_dir" in options else None,
        "help": help_of(command, parser),
        "options": options,
        "bases": writer.bases,
        "chosen": chosen,
    }


def _required(parser: Any) -> frozenset[str]:
    """Options that must be given, from what is said where none is."""
    try:
        parser.parse_args([])
    except InputError as refusal:
        told, found, _ = str(refusal).partition(" must be given")
        return frozenset(re.findall(r"--([\w.]+)", told)) if found else frozenset()
    return frozenset()


def write_catalogue() -> list[Path]:
    """Write every command's file anew; those that nothing changed keep their bytes."""
    paths = []
    for command in COMMANDS:
        paths.append(FOLDER / f"{command}.json")
        write_bytes(paths[-1], (json.dumps(describe_command(command), indent=1) + "\n").encode())
    return paths


class _Describer:
    """Options as plain data, and the classes that they take, each once.

    Args:
        required: Options that must be given, since nothing has a value for them.
    """

    def __init__(self, required: frozenset[str]) -> None:
        self.bases: dict[str, dict[str, dict[str, Any]]] = {}
        self.files: set[str] = set()
        self.required = required

    def option(self, hint: Any, action: argparse.Action | None = None, name: str = "") -> dict[str, Any]:
        if hint is None and action is not None and action.nargs == 0:
            return _plain(Option("nothing", ""))
        if name in ("config", "print_config", "help"):
            return _plain(Option("a file", "FILE.yaml", open=True))
        classes = [part for part in _parts(hint) if inspect.isclass(part) and not _is_plain(part)]
        ours = [part for part in classes if part.__module__.startswith(PACKAGE)]
        base = ours[0] if len(ours) == len(classes) == 1 else None
        for kind in ours:
            self._note(kind)
        open_ = bool(classes and base is None) or any(get_origin(part) is dict or part is dict for part in _parts(hint))
        default = None if action is None else action.default
        plain = isinstance(default, int | float | str) and not isinstance(default, bool) and default != "==SUPPRESS=="
        shown = str(default) if plain else example(hint)
        key = None if base is None or is_dataclass(base) else self._base(base)
        required = name in self.required
        return _plain(Option(describe(hint), shown, _kinds(hint), key, open_, required))

    def _base(self, base: type) -> str:
        key = f"{base.__module__}.{base.__qualname__}"
        if key not in self.bases:
            self.bases[key] = {}
            for kind in descendants(base):
                self._note(kind)
                own = {name: argument_type(kind, name) for name in parameters(kind)}
                self.bases[key][kind.__name__] = self._flat(own)
        return key

    def _flat(self, arguments: dict[str, Any], prefix: str = "") -> dict[str, dict[str, Any]]:
        """Arguments by name; those of a dataclass below its own name."""
        found = {}
        for name, hint in arguments.items():
            found[prefix + name] = self.option(hint)
            for part in _parts(hint):
                if is_dataclass(part) and isinstance(part, type):
                    self._note(part)
                    own = {own: argument_type(part, own) for own in parameters(part)}
                    found |= self._flat(own, f"{prefix}{name}.")
        return found

    def _note(self, kind: type) -> None:
        """Remember the sources that say what arguments a class has."""
        for owner in kind.__mro__:
            if owner.__module__.startswith(f"{PACKAGE}."):
                self.files.add(owner.__module__.removeprefix(f"{PACKAGE}.").replace(".", "/") + ".py")


def _plain(option: Option) -> dict[str, Any]:
    defaults = asdict(Option("", ""))
    return {name: value for name, value in asdict(option).items() if name in ("takes", "example") or value != defaults[name]}


def _parts(hint: Any) -> list[Any]:
    return [*get_args(hint)] if get_origin(hint) in (Union, types.UnionType) else [hint]


def _is_plain(kind: type) -> bool:
    return kind in (*_WORDS, str, dict, list, tuple, object) or kind.__name__.startswith("Path")


def _kinds(hint: Any) -> tuple[str, ...] | None:
    found: list[str] = []
    for part in _parts(hint):
        if get_origin(part) is Literal:
            found += [str(choice) for choice in get_args(part)]
        elif part in _WORDS:
            found.append(_WORDS[part])
        else:
            return None
    return tuple(found)


def _class_of(default: Any) -> str | None:
    path = default.get("class_path") if hasattr(default, "get") else default
    if not isinstance(path, str) or not path.startswith(f"{PACKAGE}."):
        return None
    return path.rpartition(".")[2]


def _always(command: str) -> set[str]:
    """What the help of a command depends on besides the classes of its options."""
    module = COMMANDS[command].load()
    used = {f"cli/commands/{COMMANDS[command].module}.py", "cli/table.py"}
    used |= {f"cli/{name}.py" for name in ("help/describe", "help/help_text", "options/option_types", "options/parsing")}
    defaults = getattr(module, "DEFAULTS", None)
    if defaults is not None:
        used.add(f"{CONFIGS.name}/{defaults}.yaml")
    for kind in module_tasks(module):
        used.add(kind.__module__.removeprefix(f"{PACKAGE}.").replace(".", "/") + ".py")
    return used


def module_tasks(module: Any) -> list[type]:
    """Dataclasses that a command's module names, whose arguments are its options."""
    own = [kind for kind in vars(module).values() if isinstance(kind, type) and is_dataclass(kind)]
    return [kind for kind in own if kind.__module__.startswith(f"{PACKAGE}.")]


if __name__ == "__main__":
    for path in write_catalogue():
        print(path)
