"""Results as values, one a setup, defence and victim: written as lines of JSON, and read back by whoever shows them."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from poison_and_defend.core.files import write_bytes
from poison_and_defend.core.reading.files import brief, check_fields, guarded, parse_json, read_text

NO_ATTACK = "no_attack"
"""The arm whose training set nobody changed; every other arm is compared with it."""

_WHAT = "no list of results"
# What a line leaves out where it has no more to say than this.
_SILENT: dict[str, Any] = {
    **dict.fromkeys(("label", "color", "auroc", "poisons_dropped", "clean_dropped", "withstands", "unproved")),
    "models": 1,
    "variant": "",
    "recipe": "",
    "told": "",
    "certified": {},
    "facts": {},
}
_NUMBERS = ("setup", "target_index", "target_label", "adversarial_label", "num_poisons", "successes", "trials")
# All that is counted or shown; what else a line says is kept as it is.
_FIELDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("attack", "defense", "victim", "knowledge", "goal", "norm"), str),
    **dict.fromkeys(_NUMBERS, int),
    **dict.fromkeys(("sigma", "eps", "clean_accuracy"), float),
    "success": (bool, int),
    "predicted": (int, list),
    "label": (str, type(None)),
    "color": (str, type(None)),
    "models": int,
    **dict.fromkeys(("variant", "told", "recipe"), str),
    **dict.fromkeys(("auroc", "poisons_dropped", "clean_dropped"), (float, type(None))),
    "withstands": (int, type(None)),
    "certified": dict,
    "facts": dict,
    "unproved": (str, type(None)),
    "source_accuracy": (float, type(None)),
    "dataset": str,
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """How one victim did in one setup under one defence. What older files do not say is None, or as it was then.

    Attributes:
        scenario: Whether the victim trains a head on a fixed extractor, or all of its network.
        variant: What the attack does otherwise than its name says, in words; "" for nothing.
        setup: Number of the setup.
        target_index: Row of the setup's first target in the test split.
        target_label: Its true class.
        adversarial_label: The class that the attacker wants it to be read as, and that all poisons are labelled as.
        num_poisons: Training images that were changed.
        norm: ``linf`` or ``l2``.
        eps: The most that an image was changed by in that norm, over pixels in [0, 1].
        defense: Name of the arm: what the training set went through; ``no_attack`` for one that nobody changed.
        label: The arm as readers see it; None for what the name says.
        color: Of its bars in figures; None for the next one.
        sigma: Standard deviation of the noise that the defence adds, over pixels in [0, 1]; 0 if none.
        victim: Architecture that was trained.
        knowledge: What the attacker knows of it: white, grey or black box.
        goal: What success is measured on; see :data:`poison_and_defend.attacks.base.Goal`.
        visible_trigger: Whether the poisons carry the trigger beyond their budget.
        success: Whether the first target, with the trigger if there is one, is read as the adversarial label.
        predicted: The class that it is read as.
        successes: How many of the trials are read as the adversarial label.
        trials: Targets, or test images with the trigger.
        clean_accuracy: Share of clean test images that are read right, in [0, 1].
        source_accuracy: Share of clean test images of the target's class that are read right; None where it was not measured.
        objective: The attack's own final loss on this setup.
        surrogates: Architectures that the attacker trained.
        seed: Of the setup.
        seconds: Mean time that a victim of this architecture took.
        revision: The project's, that made it.
        models: How many models the victim's vote is of; 1 where it is one model.
        recipe: Name of the recipe that victims are trained by; "" for plain training.
        told: What the defender was told that a real one would have to find out, in words; "" if nothing.
        auroc: The chance that a filter's score of a poison is above that of a clean row; None without filter or poisons.
        poisons_dropped: Share of the poisons that filters, or a recipe while it trained, dropped; None without them.
        clean_dropped: Share of the other rows that filters, or a recipe while it trained, dropped; None without these.
        withstands: How many changed rows the vote's answer to the first target provably survives; None if nothing is proved.
        certified: Share of clean test images that are read right, provably also after so many changed rows, by their number.
        unproved: Why the bound of the vote does not hold, in words; None where it does or there is no vote.
        facts: What is known of the victim's recipe in advance, by name, as the privacy loss of DP-SGD.
    """

    dataset: str
    scenario: str | None = None
    attack: str
    setup: int
    target_index: int
    target_label: int
    adversarial_label: int
    num_poisons: int
    norm: str
    eps: float
    defense: str
    sigma: float
    victim: str
    knowledge: str
    goal: str
    visible_trigger: bool = False
    success: bool
    predicted: int | list[int]
    successes: int
    trials: int
    clean_accuracy: float
    source_accuracy: float | None
    objective: float | None = None
    surrogates: list[str] = field(default_factory=list)
    seed: int | None = None
    seconds: float | None = None
    revision: str | None = None
    label: str | None = None
    color: str | None = None
    models: int = 1
    variant: str = ""
    recipe: str = ""
    told: str = ""
    auroc: float | None = None
    poisons_dropped: float | None = None
    clean_dropped: float | None = None
    withstands: int | None = None
    certified: dict[str, float] = field(default_factory=dict)
    unproved: str | None = None
    facts: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Share of the trials that succeed."""
        return self.successes / self.trials

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """From JSON, also of before there were backdoors; keys that are not known are passed over.

        Raises:
            KeyError: If it does not say whether the attack succeeded.
            TypeError: If another is missing.
        """
        known = {one.name for one in fields(cls)}
        return cls(**{key: part for key, part in _completed(value).items() if key in known})

    def to_json(self) -> dict[str, Any]:
        """What a line of ``results.jsonl`` holds; of what rewriters alone have nothing to say, nothing."""
        line = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in line.items() if name not in _SILENT or value != _SILENT[name]}


def _completed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Results without these keys are of attacks on one target, by an attacker who knows the victim's architecture."""
    defaults = {
        "victim": value.get("backbone", "unknown"),
        "knowledge": "white box" if value.get("scenario") == "transfer" else "grey box",
        "goal": "targets",
        "successes": int(value["success"]),
        "trials": 1,
        "source_accuracy": None,
        **_SILENT,
    }
    return {**defaults, **value}


def write_results(path: Path, results: Iterable[Result]) -> None:
    """Write one JSON object a line, all at once; a file that says the same already is left as it is."""
    content = "".join(json.dumps(result.to_json()) + "\n" for result in results).encode()
    if not path.exists() or path.read_bytes() != content:
        write_bytes(path, content)


def read_results(path: Path, option: str = "--run") -> list[Result]:
    """Read what :func:`write_results` wrote, also before there were backdoors; an absent file holds no results.

    Args:
        path: The file.
        option: What the user should change if it cannot be read.

    Raises:
        InputError: If it cannot be read, or a line is no result.
    """
    if not os.path.lexists(path):
        return []
    lines = read_text(path, _WHAT, option).splitlines()
    return parse_results([parse_json(line, path, _WHAT, option) for line in lines], path, option)


def parse_results(values: Iterable[Any], path: Path, option: str = "--run") -> list[Result]:
    """Results from JSON values.

    Args:
        values: One a result.
        path: Where they come from.
        option: What the user should change if one is no result.

    Raises:
        InputError: If one is none.
    """
    return [_checked(value, f"{path}, line {number}", option) for number, value in enumerate(values, 1)]


def _checked(value: Any, name: str, option: str) -> Result:
    with guarded(name, _WHAT, option):
        result = Result.read(check_fields(_completed(value), _FIELDS, name, _WHAT, option))
        if not 0 <= result.successes <= result.trials or not 1 <= result.trials < 2**31:
            raise ValueError(f"{result.successes} of {result.trials} trials succeed")
        for key in ("sigma", "eps"):
            if not 0 <= getattr(result, key) < 1e6:
                raise ValueError(f"its {key} is {getattr(result, key):g}")
        for value in result.certified.values():
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(f"it certifies {brief(value)}")
        for value in result.facts.values():
            if not isinstance(value, int | float):
                raise ValueError(f"it knows {brief(value)} of its recipe")
        for key in (*_NUMBERS, "clean_accuracy", "source_accuracy", "auroc", "poisons_dropped", "clean_dropped", "withstands"):
            number = getattr(result, key)
            if number is not None and abs(number) > 2**63:
                raise ValueError(f"its {key} is {brief(number)}")
    return result
