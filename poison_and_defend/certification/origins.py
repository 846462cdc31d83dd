"""Where everything that a vote depends on came from, and whether that leaves a certificate standing.

A certificate speaks of rules that see the received training set through its noisy subsamples alone. One number computed from
the raw set (a mean to normalize with, an epoch to stop at, weights to start from) is a second look that no bound accounts for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from poison_and_defend.core.errors import InputError

Origin = Literal["fixed", "trusted", "noised", "vouched", "raw", "unknown"]
"""
``fixed``: chosen without looking at any data; ``trusted``: from data out of the attacker's reach; ``noised``: from the noisy
subsample that the model itself trains on; ``vouched``: unknown here, but the user says trusted; ``raw``: from the received set
as it came; ``unknown``: nobody says.
"""

_SOUND: frozenset[Origin] = frozenset({"fixed", "trusted", "noised", "vouched"})


@dataclass(frozen=True)
class Ingredient:
    """One thing that every vote depends on.

    Attributes:
        name: Such as ``denoiser``; what ``--vouch`` names.
        origin: Where it came from.
        detail: How that is known, one sentence without a full stop.
    """

    name: str
    origin: Origin
    detail: str


def vouch(ingredients: Sequence[Ingredient], names: Iterable[str]) -> list[Ingredient]:
    """The same with unknown origins taken on the user's word.

    Raises:
        InputError: If a name is not among them, or is known to come from the raw set: no word mends that.
    """
    found = {ingredient.name: ingredient for ingredient in ingredients}
    for name in names:
        if name not in found:
            raise InputError(f"{name!r} is no part of this certificate: vouch for {', '.join(found)} (--vouch)")
        own = found[name]
        if own.origin == "raw":
            raise InputError(f"nobody can vouch for the {name}: {own.detail} (--vouch)")
        if own.origin == "unknown":
            found[name] = Ingredient(name, "vouched", f"{own.detail}; the user vouches for it")
    return list(found.values())


def void_reasons(ingredients: Iterable[Ingredient]) -> list[str]:
    """Why there is no certificate; empty if there is one."""
    return [f"{i.name} ({i.origin}): {i.detail}" for i in ingredients if i.origin not in _SOUND]
