"""Arms: the rows of a comparison, chains of countermeasures in the order in which they act."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import digest
from poison_and_defend.defenses.base import Defense
from poison_and_defend.defenses.filters.base import Filter
from poison_and_defend.defenses.rewriters.base import Rewriter
from poison_and_defend.defenses.training.base import Plain, Training
from poison_and_defend.defenses.voting.base import Voting

KINDS: tuple[tuple[type[Defense], str], ...] = (
    (Rewriter, "rewriters"), (Filter, "filters"), (Training, "training recipes"), (Voting, "votes"),
)  # fmt: skip
"""In the order in which they act."""

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,79}")


class Chain(Defense):
    """Several countermeasures one after the other, or none: what an arm is made of.

    Args:
        steps: Countermeasures in the order rewriters, filters, at most one training recipe, at most one vote.
        attacked: Whether the set is poisoned; otherwise the bases stay as they are, which is what would have happened anyway.
    """

    name = "chain"

    def __init__(self, steps: list[Defense] | None = None, attacked: bool = True) -> None:
        self.steps, self.attacked = list(steps or []), attacked


@dataclass(frozen=True, eq=False)
class Arm:
    """One row of a comparison.

    Attributes:
        name: Unique in the comparison.
        steps: What is done, in this order.
        attacked: Whether the set is poisoned; an arm that is not is a control.

    Raises:
        InputError: If the name is none, or the steps are not rewriters, filters, a training recipe and a vote, in this order.
    """

    name: str
    steps: tuple[Defense, ...] = ()
    attacked: bool = True

    _order: ClassVar[str] = "rewriters, filters, at most one training recipe and at most one vote"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError(
                f"{self.name!r} is no name of an arm: letters, digits and _ . + - make one, 80 at most (--arms.NAME)"
            )
        places = [self._place(step) for step in self.steps]
        for earlier, later in pairwise(places):
            if later < earlier:
                raise InputError(
                    f"the arm {self.name} has {KINDS[later][1]} after {KINDS[earlier][1]}: the order is {self._order} "
                    "(--defenses)"
                )
        for place in (2, 3):
            if places.count(place) > 1:
                raise InputError(
                    f"the arm {self.name} has {places.count(place)} {KINDS[place][1]}: the order is {self._order} (--defenses)"
                )

    def _place(self, step: Defense) -> int:
        for place, (kind, _) in enumerate(KINDS):
            if isinstance(step, kind):
                if not _NAME.fullmatch(str(getattr(step, "name", ""))):
                    raise InputError(
                        f"{type(step).__name__} in the arm {self.name} has no name for its records: give the class one, for "
                        f'example name = "{type(step).__name__.lower()}" (--arms.{self.name})'
                    )
                return place
        raise InputError(
            f"{type(step).__name__} in the arm {self.name} is no rewriter, filter, training recipe or vote (--arms.{self.name})"
        )

    @property
    def rewriters(self) -> tuple[Rewriter, ...]:
        """Those that change rows, in order."""
        return tuple(step for step in self.steps if isinstance(step, Rewriter))

    @property
    def filters(self) -> tuple[Filter, ...]:
        """Those that drop rows, in order."""
        return tuple(step for step in self.steps if isinstance(step, Filter))

    @property
    def training(self) -> Training:
        """How victims are trained."""
        return next((step for step in self.steps if isinstance(step, Training)), Plain())

    @property
    def voting(self) -> Voting | None:
        """The vote, if there is one."""
        return next((step for step in self.steps if isinstance(step, Voting)), None)

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise that is added, in [0, 1] pixels; 0 if none."""
        return max((step.sigma for step in self.rewriters), default=0.0)

    @property
    def draws(self) -> int:
        """How many versions of each image victims train on."""
        return max((step.draws for step in self.rewriters), default=1)

    @property
    def unproved(self) -> str | None:
        """Why a vote's bound does not hold, in words; None where it does, or there is no vote."""
        before = [step.name for step in self.filters]
        if self.voting is None or not before:
            return None
        return f"{', '.join(before)} looked at the whole set before the vote, so that one changed row may change every part"

    @property
    def label(self) -> str:
        """What readers see."""
        if not self.steps:
            return "undefended" if self.attacked else "no attack"
        known = "+".join(step.name for step in self.steps)
        titles = " + ".join(step.title() for step in self.steps)
        name = self.name.removeprefix("no_attack+")
        shown = titles if name == known else name.replace("_", " ")
        return shown if self.attacked else f"{shown}, no attack"

    @property
    def color(self) -> str | None:
        """Of its bars in figures."""
        if not self.steps:
            return "#b2433a" if self.attacked else "#9a9a9a"
        return self.steps[0].color if len(self.steps) == 1 and self.attacked else None

    def settings(self) -> dict[str, Any]:
        """All that its results depend on besides what all arms share."""
        # A single rewriter's are what they were before there were other kinds.
        steps = [step.settings() for step in self.steps]
        found = steps[0] if len(steps) == 1 else {"steps": steps}
        return found if self.attacked else found | {"attacked": False}

    def check(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        """Refuse data that a step cannot work on; see :meth:`Defense.check`."""
        for step in self.steps:
            step.check(image_shape, num_classes)

    def told(self, bound: int | None) -> str:
        """What its defender was told that a real one would have to find out, in words; "" if nothing."""
        return "; ".join(dict.fromkeys(filter(None, (step.told(bound) for step in self.steps))))


def make_arms(given: Mapping[str, Defense | None], **common: Any) -> dict[str, Arm]:
    """Arms by name, completed with what all of them share.

    Args:
        given: A countermeasure, a :class:`Chain`, or None for undefended, by the arm's name.
        common: Values for arguments that a countermeasure leaves out, by name.

    Raises:
        InputError: If there is none, one is no arm, or two are the same.
    """
    if not given:
        raise InputError("no arm is named: name at least one, for example --defenses [none,diffusion] (--defenses)")
    arms: dict[str, Arm] = {}
    for name, value in given.items():
        chain = value if isinstance(value, Chain) else Chain([] if value is None else [value])
        arms[name] = Arm(name, tuple(step.completed(**common) for step in _flat(chain.steps)), chain.attacked)
    return arms


def refuse_twins(arms: Mapping[str, Arm]) -> None:
    """Refuse two names for one thing.

    Raises:
        InputError: Naming both.
    """
    seen: dict[str, str] = {}
    for name, arm in arms.items():
        other = seen.setdefault(digest(arm.settings()), name)
        if other != name:
            raise InputError(f"the arms {other} and {name} are the same: change one or leave it out (--arms.{name})")


def _flat(steps: Sequence[Defense]) -> list[Defense]:
    return [inner for step in steps for inner in (_flat(step.steps) if isinstance(step, Chain) else [step])]
