"""Rewriters by their names, for options and arguments that take either a name or one that is ready."""

import re
from importlib import import_module
from typing import Any

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.rewriters.base import Rewriter
from poison_and_defend.defenses.rewriters.diffusion import DenoiseOnly, Diffusion, NoiseOnly
from poison_and_defend.defenses.rewriters.jpeg import Jpeg

REWRITERS: dict[str, type[Rewriter]] = {kind.name: kind for kind in (Diffusion, NoiseOnly, DenoiseOnly, Jpeg)}


def find_rewriter(wanted: Rewriter | str, **common: Any) -> Rewriter:
    """A rewriter by its name or as it is, completed with what was left out.

    Args:
        wanted: A name of :data:`REWRITERS`, or a rewriter.
        common: Values for arguments that the rewriter leaves out, by name.

    Raises:
        InputError: If there is no such name, or a value is out of range.
    """
    if isinstance(wanted, str):
        if wanted not in REWRITERS:
            _refuse_path(wanted)
            raise InputError(
                f"{wanted!r} is not a rewriter: choose from {', '.join(REWRITERS)}, or name a class by its path, for example "
                "my_module.MyRewriter (--defense)"
            )
        wanted = REWRITERS[wanted]()
    if wanted.draws > 1:
        raise InputError(f"draws is {wanted.draws}: a sanitized set holds one version of each image (--defense)")
    return wanted.completed(**common)


def _refuse_path(path: str) -> None:
    """Say why what looks like a class path has not become a rewriter.

    Raises:
        InputError: If it looks like one.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", path):
        return
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    # A module of the user's may raise anything while it is imported.
    except Exception as error:
        raise InputError(f"{path} cannot be imported: {type(error).__name__}: {error} (--defense)") from error
    if not isinstance(found, type) or not issubclass(found, Rewriter):
        raise InputError(f"{path} is no rewriter: a subclass of poison_and_defend.defenses.Rewriter is needed (--defense)")
    lacks = ", ".join(sorted(getattr(found, "__abstractmethods__", ()))) or "arguments that are needed"
    raise InputError(f"{path} cannot be built: it lacks {lacks} (--defense)")
