"""What is asked of the checks, beside the experiment whose attack they are of."""

from dataclasses import dataclass, field

from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError

NAMES = {
    1: "through a defence that does nothing it is the plain attack",
    2: "without a budget it succeeds",
    3: "more budget, poisons, draws or steps make it stronger, more noise weaker",
    4: "it has converged, on noise that no step saw",
    5: "its gradient through the defence is the defence's",
    6: "it finds a hole that was planted",
    7: "without gradients nobody does better",
    8: "it is stronger than noise, and not weaker than the plain attack",
    9: "its poisons are poisons without the defence, too",
    10: "enough setups to tell",
    11: "the training set is purified once, and so is it counted",
}
"""What each check asks, by its number."""


@dataclass(frozen=True)
class CheckOptions:
    """Which checks are made.

    Args:
        checks: Numbers of the checks that are made, of 1 to 11; runs that no other check needs are left out.
        control_setups: How many setups the checks of the gradient, by finite differences and by SPSA, are made on.
        spsa_samples: Directions that SPSA tries for each image, view and step; each takes two passes through the defence, where
            the gradient takes about three in all.
        unbounded_steps: How many steps check 2 gives the attack without a budget, which has farther to go; None for as many as
            it takes within its own.
    """

    checks: list[int] = field(default_factory=lambda: list(NAMES))
    control_setups: int = 2
    spsa_samples: int = 8
    unbounded_steps: int | None = None

    def __post_init__(self) -> None:
        wrong = [str(number) for number in self.checks if number not in NAMES]
        if wrong or not self.checks:
            told = f"there is no check {', '.join(wrong)}" if wrong else "no check is named"
            raise InputError(f"{told}: they are numbered from 1 to 11 (--checks [1,4,5])")
        at_least("control_setups", self.control_setups, 1)
        at_least("spsa_samples", self.spsa_samples, 1)
        if self.unbounded_steps is not None:
            at_least("unbounded_steps", self.unbounded_steps, 1)
