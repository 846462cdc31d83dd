"""Sentences about options, the same whoever finds what is wrong: the parser, or what is looked at before it is imported."""

import difflib
from collections.abc import Callable, Iterable, Sequence

from poison_and_defend.cli.options.former import OPTIONS


def suggestion(name: str, known: Iterable[str]) -> str:
    """`` (did you mean ...?)`` with the nearest name, or nothing."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f": did you mean {near[0]}?" if near else ""


def unknown_option(option: str, owner: str | None, known: Sequence[str], show: Callable[[str], str]) -> str:
    """What is said of an option that nobody has.

    Args:
        option: As it was typed, without its dashes.
        owner: The class whose argument it would be, if it is one that the user chose.
        known: Options that there are.
        show: An option to ``--option VALUE``.
    """
    if option in OPTIONS and OPTIONS[option] in known:
        return f"there is no option --{option} any more: it is {show(OPTIONS[option])}"
    # By the last name where a class has been chosen: what comes before it is right.
    tails = {own.rpartition(".")[2] if owner else own: own for own in known}
    name = option.rpartition(".")[2] if owner else option
    near = [tails[own] for own in difflib.get_close_matches(name, list(tails), 1)]
    told = f": did you mean {show(near[0])}?" if near else ""
    of = f" of {owner}" if owner else ""
    return f"there is no option --{option}{of}{told or ' (--help lists the options)'}"


def stray_word(word: str) -> str:
    """What is said of a word that no option takes."""
    return f"{word!r} is no option: options begin with two dashes, for example --config FILE.yaml (--help lists them)"


def no_value(option: str, shown: str) -> str:
    """What is said of an option that ends where its value should be."""
    return f"--{option} needs a value, for example {shown}"


def wrong_value(option: str, given: str | None, takes: str, shown: str) -> str:
    """What is said of a value that an option does not take."""
    what = f"--{option} is {given[:60]!r}" if given is not None else f"--{option} cannot be used as it is"
    return f"{what}: it takes {takes}, for example {shown}"


def missing_options(names: Sequence[str], shown: Sequence[str]) -> str:
    """What is said where options are missing, each shown as ``--option VALUE``."""
    return f"{' and '.join(f'--{name}' for name in names)} must be given, for example {' '.join(shown)}"
