"""A certificate of any change as values: written as ``any_change.json``, and read back by whoever shows it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import check_fields, guarded, read_json

WHAT, OPTION, FILE = "no certificate of any change that can be shown", "--run", "any_change.json"

NAMES = {
    "planned": "best on the reference",
    "trusted": "trusted images alone",
    "neighbours": "neighbours",
    "kernel": "kernel",
    "partition": "heads of parts",
    "run_off": "heads of parts, run-off",
    "aggregation": "heads of overlapping parts",
    "hybrid": "heads of trusted images and a part",
}
"""Votes as a reader expects them, in the order of a table."""


@dataclass(frozen=True, kw_only=True)
class Vote:
    """What votes of one family withstand; lists have an entry for each number of poisons.

    Attributes:
        rules: Settings, chosen on the reference for that number.
        accuracy: Share of test images that the vote reads right.
        certified: Share that it reads right whatever so many images change into.
        with_labels: Share that it reads right whatever so many images and their labels change into.
        foretold: What a labelled reference promised; None where settings follow from rules.
    """

    name: str
    rules: list[dict[str, Any]]
    accuracy: list[float]
    certified: list[float]
    with_labels: list[float]
    foretold: list[float | None]


@dataclass(frozen=True, kw_only=True)
class AnyChange:
    """Everything that is claimed, and what it rests on.

    Attributes:
        certified: Whether nothing voids it.
        void: What does.
        received: Images that an attacker may have changed.
        trusted: Images whose labels are trusted.
        features: Numbers that the networks give an image.
        labelled: Whether a labelled reference chose the votes.
    """

    dataset: str
    certified: bool
    void: list[str]
    received: int
    trusted: int
    test_images: int
    classes: int
    features: int
    labelled: bool
    k: list[int]
    votes: list[Vote]
    ingredients: list[dict[str, Any]]
    wall_seconds: float
    provenance: dict[str, Any]

    def shown(self) -> list[Vote]:
        """Votes in the order of a table."""
        return sorted(self.votes, key=lambda vote: list(NAMES).index(vote.name))

    @property
    def alone(self) -> float | None:
        """Accuracy of the trusted images alone; None where there are none."""
        return next((vote.accuracy[0] for vote in self.votes if vote.name == "trusted"), None)

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """From JSON; keys that are not known are passed over.

        Raises:
            TypeError: If one is missing.
        """
        known = {one.name for one in fields(cls)}
        own = {key: part for key, part in value.items() if key in known}
        own["votes"] = [Vote(**vote) for vote in value["votes"]]
        return cls(**own)

    def to_json(self) -> dict[str, Any]:
        """What ``any_change.json`` holds."""
        return asdict(self)


_FIELDS: dict[str, type] = {
    "dataset": str,
    **dict.fromkeys(("void", "k", "votes", "ingredients"), list),
    **dict.fromkeys(("received", "trusted", "test_images"), int),
    "certified": bool,
    "provenance": dict,
}
_LISTS = ("rules", "accuracy", "certified", "with_labels", "foretold")


def read_any_change(path: Path) -> AnyChange:
    """Read what :meth:`AnyChange.to_json` wrote.

    Raises:
        InputError: If it is missing or damaged.
    """
    try:
        found = check_fields(read_json(path, WHAT, OPTION), _FIELDS, path, WHAT, OPTION)
    except FileNotFoundError as error:
        raise InputError(f"{path.parent} holds no {path.name} ({OPTION})") from error
    for vote in found["votes"]:
        check_fields(vote, {"name": str, **dict.fromkeys(_LISTS, list)}, path, WHAT, OPTION)
    with guarded(path, WHAT, OPTION):
        result = AnyChange.read(found)
        for vote in result.votes:
            if vote.name not in NAMES or any(len(getattr(vote, name)) != len(result.k) for name in _LISTS):
                raise ValueError(f"the vote {vote.name!r} is not known, or has not an entry for each number of poisons")
    return result
