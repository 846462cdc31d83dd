"""What ``--help`` prints of a command: groups under their titles, and what every option does, takes and has by default."""

import argparse
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from poison_and_defend.cli.options.option_types import describe
from poison_and_defend.cli.table import COMMANDS, usage

_WIDTH, _INDENT = 100, 6
_HELPS = "options that list a class's options"
_OURS = {
    "--help": "Print this and end.",
    "--print_config": "Print all options as YAML, as they would be, and end.",
    "--config": "YAML file of options, or the name of a preset; may be repeated, later ones win.",
}
_LONG = 60  # Characters of a default; more is in the configuration that --print_config writes.


def help_text(command: str, parser: argparse.ArgumentParser, preset: str | None) -> str:
    """The whole text.

    Args:
        command: Its name.
        parser: With all its options.
        preset: Whose values its options have by default, if any.
    """
    defaults = _defaults(parser)
    lines = [
        f"usage: {usage(command)}",
        "",
        *_wrapped(f"{COMMANDS[command].about[:1].upper()}{COMMANDS[command].about[1:]}.", 0),
    ]
    if preset is not None:
        lines += [
            "",
            *_wrapped(f"Defaults are those of the preset {preset}; --config FILE and options after it change them.", 0),
        ]
    for group in parser._action_groups:
        shown = [line for action in group._group_actions for line in _option(action, defaults)]
        if shown:
            lines += ["", *_wrapped(f"{_title(group.title or '')}:", 0), *shown]
    return "\n".join(lines) + "\n"


def _title(text: str) -> str:
    text = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"A \1", text.strip().rstrip(".:"))
    named = {"options": "General", "positional arguments": "General"}
    return named.get(text, text[:1].upper() + text[1:])


def _defaults(parser: Any) -> dict[str, Any]:
    """Default of every option by its name, as a preset has it."""
    found = parser.get_defaults(skip_validation=True)
    helps = {name for action in parser._actions for name in action.option_strings if name.endswith(".help")}
    return {key: found[key] for key in found.keys(branches=True)} | {_HELPS: helps}


def _option(action: argparse.Action, defaults: dict[str, Any]) -> Iterator[str]:
    names = [name for name in action.option_strings if not name.endswith("+")]
    # That of a class is named beside the option that takes the class.
    if not names or action.help == argparse.SUPPRESS or names[-1].endswith(".help"):
        return
    hint = getattr(action, "_typehint", None) or action.type
    yield f"  {', '.join(reversed(names))}"
    yield from _wrapped(_about(action, names[-1]), _INDENT)
    if action.nargs == 0 or hint is None:
        return
    default = _shown(defaults.get(action.dest))
    required = getattr(action, "_required", False) or action.required
    rest = f"; default: {default}" if default != "null" or not required else "; must be given"
    yield from _wrapped(f"Takes {describe(hint)}{rest if default else ''}.", _INDENT)
    if f"{names[-1]}.help" in defaults[_HELPS]:
        yield from _wrapped(f"Options of one of these: {names[-1]}.help NAME", _INDENT)


def _about(action: argparse.Action, name: str) -> str:
    """What an option does, in our words where the parser's are about itself."""
    own = _OURS.get(name)
    text = own or " ".join((action.help or "").replace("%%", "%").split())
    if text == "Path to a configuration file.":
        return f"YAML file of the options that begin with {name}."
    if "class_path" in text:
        return "A class by its name, whose options follow."
    value = text.startswith("``")
    # Markup of the docstring that the text comes from.
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text).replace("``", "").replace("`", "")
    # A value stays as it is typed.
    text = text if value else text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", ":")) or not text else f"{text}."


def _shown(value: Any) -> str:
    """A default in few characters: a class by its name."""
    path = value.get("class_path") if hasattr(value, "get") else None
    if isinstance(path, str):
        return path.rpartition(".")[2]
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if hasattr(value, "as_dict") or value == argparse.SUPPRESS:
        return ""
    if isinstance(value, list):
        # Options of a class are shown as they are written in YAML.
        value = [one.as_dict() if hasattr(one, "as_dict") else one for one in value]
    text = str(value)
    return text if len(text) <= _LONG else f"{text[:_LONG].rpartition(' ')[0]} ..."


def _wrapped(text: str, indent: int) -> list[str]:
    space = " " * indent
    return textwrap.wrap(text, _WIDTH, initial_indent=space, subsequent_indent=space, break_on_hyphens=False)
