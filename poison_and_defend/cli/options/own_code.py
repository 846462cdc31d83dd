"""A user's own classes in files of the working folder, found once a class path names one."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from poison_and_defend.cli.options.former import CLASS_PATH


def find_own_code(value: Any) -> None:
    """Let Python look into the working folder where a class path begins with a module that is there and nowhere else.

    A console script does not look there, and must not by itself: the folder may hold anybody's files.

    Args:
        value: A class path, or a configuration with some anywhere in it.
    """
    if isinstance(value, dict):
        for part in value.values():
            find_own_code(part)
    elif isinstance(value, list):
        for part in value:
            find_own_code(part)
    elif isinstance(value, str) and CLASS_PATH.fullmatch(value):
        top, folder = value.partition(".")[0], Path.cwd()
        there = (folder / f"{top}.py").is_file() or (folder / top).is_dir()
        if there and str(folder) not in sys.path and _missing(top):
            # Last, so that no file of it stands in the way of an installed module.
            sys.path.append(str(folder))


def _missing(module: str) -> bool:
    try:
        return find_spec(module) is None
    except (ImportError, ValueError):
        return True
