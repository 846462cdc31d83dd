"""Bounds of options, each refused in the same words: value, bound and option."""

from poison_and_defend.core.errors import InputError


def at_least(name: str, value: float, bound: float, option: str | None = None) -> None:
    """Refuse a value below its bound.

    Args:
        name: What the value is called.
        bound: The least that it may be.
        option: As the command line has it; by default its name.

    Raises:
        InputError: Naming all three.
    """
    # Not below the bound, rather than below it: what is no number is neither.
    if not value >= bound:
        raise InputError(f"{name} is {value}: it must be at least {bound} (--{option or name})")
