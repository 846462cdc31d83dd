"""Bounds of options, each refused in the same words: value, bound and option."""

from poison_and_defend.core.errors import InputError


def at_least(name: str, value: float, bound: float, option: str | None = None, *, of: str = "") -> None:
    """Refuse a value below its bound.

    Args:
        name: What the value is called.
        bound: The least that it may be.
        option: What the user should change; by default the option of that name.
        of: What it belongs to, such as ``of a recipe``.

    Raises:
        InputError: Naming all of them.
    """
    # Not below the bound, rather than below it: what is no number is neither.
    if not value >= bound:
        raise InputError(f"{_named(name, of)} is {_shown(value)}: it must be at least {bound:g} ({option or f'--{name}'})")


def above(name: str, value: float, bound: float, option: str | None = None, *, of: str = "") -> None:
    """Refuse a value at its bound or below; the arguments are those of :func:`at_least`."""
    if not value > bound:
        raise InputError(f"{_named(name, of)} is {_shown(value)}: it must be above {bound:g} ({option or f'--{name}'})")


def share(name: str, value: float, option: str | None = None, *, of: str = "a share") -> None:
    """Refuse what is not from 0 to below 1.

    Args:
        of: What it is a share of, such as ``an opacity``.

    Raises:
        InputError: Naming value, bound and option.
    """
    if not 0 <= value < 1:
        raise InputError(f"{name} is {value:g}: it is {of} in [0, 1) ({option or f'--{name}'})")


def _named(name: str, of: str) -> str:
    return f"{name} {of}".strip()


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"
