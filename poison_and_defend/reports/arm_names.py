"""How arms are called and coloured whose results do not say it: those of before every countermeasure had a class."""

from poison_and_defend.defenses.rewriters.named import REWRITERS
from poison_and_defend.reports.records import NO_ATTACK

_PLAIN = {NO_ATTACK: ("no attack", "#9a9a9a"), "none": ("undefended", "#b2433a")}


def arm_label(name: str) -> str:
    """An arm's name in words."""
    if name in _PLAIN:
        return _PLAIN[name][0]
    return REWRITERS[name].title() if name in REWRITERS else name


def arm_color(name: str) -> str | None:
    """The colour of its bars; None for the next one of Matplotlib's."""
    if name in _PLAIN:
        return _PLAIN[name][1]
    return REWRITERS[name].color if name in REWRITERS else None
