"""The options of every command as plain data, so that help and wrong options need none of what takes seconds to import.

Each command's file in ``kept/`` holds its help and its options, and a digest of the sources that say what they are. Where
these have changed, or Lightning is another version, a file is not used, and the parser itself answers.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "kept"
PACKAGE = "poison_and_defend"


@dataclass(frozen=True)
class Option:
    """What an option takes.

    Attributes:
        takes: In words.
        example: A value.
        kinds: Of the values that it takes, of ``int``, ``float``, ``bool``, ``null`` and the words of a choice; None where
            only its parser can tell.
        base: The class whose descendants it takes, as a key of the catalogue's bases; None if it takes none.
        required: Whether it must be given, by itself or in a configuration.
        open: Whether there may be options below it that are not listed.
    """

    takes: str
    example: str
    kinds: tuple[str, ...] | None = None
    base: str | None = None
    open: bool = False
    required: bool = False


@dataclass(frozen=True)
class Catalogue:
    """One command's options.

    Attributes:
        help: What ``--help`` prints.
        options: By name, without dashes.
        bases: For each class that an option takes, its descendants' arguments by their short names.
        chosen: The class that an option has by default, by its short name.
    """

    help: str
    options: dict[str, Option]
    bases: dict[str, dict[str, dict[str, Option]]]
    chosen: dict[str, str]


def read(command: str) -> Catalogue | None:
    """The catalogue of a command; None if there is none, or it is not of these sources and this version of Lightning."""
    path = FOLDER / f"{command}.json"
    if not path.is_file():
        return None
    kept = json.loads(path.read_text())
    if kept["sources"] != digest_of(kept["files"]) or kept["lightning"] not in (None, installed("lightning")):
        return None
    options = {name: _option(fields) for name, fields in kept["options"].items()}
    bases = {
        base: {kind: {name: _option(fields) for name, fields in own.items()} for kind, own in kinds.items()}
        for base, kinds in kept["bases"].items()
    }
    return Catalogue(kept["help"], options, bases, kept["chosen"])


def _option(fields: dict[str, Any]) -> Option:
    kinds = fields.get("kinds")
    return Option(**{**fields, "kinds": None if kinds is None else tuple(kinds)})


def digest_of(files: list[str]) -> str:
    """Of the contents of files of the package, named from its root wherever its rooms lie."""
    hasher = hashlib.sha256()
    for name in files:
        path = source_path(name)
        hasher.update(path.read_bytes() if path.is_file() else b"")
    return hasher.hexdigest()[:16]


def source_path(name: str) -> Path:
    """``attacks/base.py`` lies beside the package in a clone, and inside it where it was installed."""
    room, _, rest = name.partition("/")
    spec = find_spec(f"{PACKAGE}.{room}")
    if spec is None or not spec.submodule_search_locations:
        return Path(__file__).resolve().parents[2] / name
    return Path(spec.submodule_search_locations[0]) / rest


def installed(package: str) -> str | None:
    """The version of a package, None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
