"""Rewriters by their names, for options and arguments that take either a name or one that is ready."""

from typing import Any

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.rewriters.base import Rewriter
from poison_and_defend.defenses.rewriters.gaussian import DenoiseOnly, Diffusion, NoiseOnly
from poison_and_defend.defenses.rewriters.jpeg import Jpeg

REWRITERS: dict[str, type[Rewriter]] = {kind.name: kind for kind in (Diffusion, NoiseOnly, DenoiseOnly, Jpeg)}


def find_rewriter(wanted: Rewriter | str, **common: Any) -> Rewriter:
    """A rewriter by its name or as it is, completed with what was left out.

    Args:
        wanted: A name of :data:`REWRITERS`, or a rewriter.
        common: See :meth:`Defense.completed`.

    Raises:
        InputError: If there is no such name, or a value is out of range.
    """
    if isinstance(wanted, str):
        if wanted not in REWRITERS:
            raise InputError(
                f"{wanted!r} is not a rewriter: choose from {', '.join(REWRITERS)}, or name a class by its path, for example "
                "my_module.MyRewriter (--defense)"
            )
        wanted = REWRITERS[wanted]()
    return wanted.completed(**common)
