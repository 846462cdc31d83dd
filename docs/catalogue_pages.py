"""Fills ``reference/cli.md`` and ``reference/options.md`` from what the commands keep of their help.

The pages hold a marker each, so that no second copy of the help is kept that could differ from the first.
"""

import json
import re
from pathlib import Path
from typing import Any

from poison_and_defend.cli.help.catalogue import FOLDER
from poison_and_defend.cli.table import COMMANDS

MARKER = "<!-- filled when the site is built -->"


def fill(app: object, page: str, source: list[str]) -> None:
    """Put the generated part where the marker is; for Sphinx, which calls it for every page that it reads."""
    maker = PAGES.get(page)
    if maker is not None:
        source[0] = source[0].replace(MARKER, maker())


def commands_page() -> str:
    """Every command with its help, as ``--help`` prints it."""
    parts = ["| command | what it does |\n|---|---|\n"]
    parts += [f"| [`{name}`](#{name}) | {entry.about} |\n" for name, entry in COMMANDS.items()]
    for name in COMMANDS:
        parts.append(f"\n## {name}\n\n```text\n{_kept(name)['help'].rstrip()}\n```\n")
    return "".join(parts)


def options_page() -> str:
    """Every option with the commands that have it, and the arguments of every class that an option takes."""
    takers: dict[tuple[str, str, str], list[str]] = {}
    classes: dict[str, dict[str, dict[str, Any]]] = {}
    for command in COMMANDS:
        kept = _kept(command)
        about = _said(kept["help"])
        for name, option in kept["options"].items():
            # A name ending in + adds to the list of the option before it, and Lightning's own are in its documentation.
            if name in about and not name.endswith("+") and not (name.startswith("trainer.") and command != "sanitize"):
                takers.setdefault((name, option["takes"], about[name]), []).append(command)
        for kinds in kept["bases"].values():
            classes |= kinds
    rows = [
        f"| `--{name}` | {_cell(what)} | {_cell(takes)} | {', '.join(commands)} |\n"
        for (name, takes, what), commands in sorted(takers.items())
    ]
    parts = ["## Options of commands\n\n| option | what it says | takes | commands |\n|---|---|---|---|\n", *rows]
    parts.append(
        "\n## Arguments of classes\n\nThey are given below the option that names the class, as `--attack.eps 8/255`.\n"
    )
    for kind, arguments in sorted(classes.items()):
        if not arguments:
            continue
        parts.append(f"\n### {kind}\n\n| argument | takes |\n|---|---|\n")
        parts += [f"| `{name}` | {_cell(option['takes'])} |\n" for name, option in arguments.items()]
    return "".join(parts)


def _kept(command: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(FOLDER) / f"{command}.json").read_text())
    return found


def _said(text: str) -> dict[str, str]:
    """What a command's help says of each option, on one line."""
    found = {}
    for block in re.split(r"\n(?=  --)", text)[1:]:
        first, *rest = block.split("\n")
        lines = []
        for line in rest:
            if not line.startswith("      "):
                break
            lines.append(line.strip())
        # What it takes has a column of its own.
        said = re.sub(r" ?Takes (?:[^.]|\.(?=\S))*?(?:; (?:default: .*|must be given)\.?)$", "", " ".join(lines))
        found[first.split()[0].strip(",").removeprefix("--")] = said
    return found


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


PAGES = {"reference/cli": commands_page, "reference/options": options_page}
