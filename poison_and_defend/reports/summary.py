"""What results say together: success rates with their intervals, the comparison with no attack, mean accuracies."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from poison_and_defend.core.files import write_json
from poison_and_defend.reports.arm_names import arm_color, arm_label
from poison_and_defend.reports.intervals import benchmark_error, rate_interval, sign_test
from poison_and_defend.reports.records import NO_ATTACK, Result


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What all setups of one attack, victim and defence say together.

    Attributes:
        variant: What the attack does otherwise than its name says, in words; "" for nothing.
        sigma: Standard deviation of the noise that the defence adds, over pixels in [0, 1]; 0 if none.
        eps_over_sigma: The attack's budget over the noise, both over pixels in [0, 1]; None without noise.
        label: The arm as readers see it.
        color: Of its bars in figures; None for the next one.
        n: Setups.
        successes: Of all setups together.
        trials: Of all setups together.
        success_rate: Mean of the setups' own rates, in [0, 1].
        ci_low: Lower end of the rate's 95 % interval.
        ci_high: Its upper end.
        interval: How it was computed, in words.
        higher: Setups in which success is above that of the arm without attack; None where there is no such arm.
        lower: Those in which it is below.
        p_value: Of :func:`poison_and_defend.reports.intervals.sign_test`.
        target_success: Setups whose first target is misread, which is what the public benchmark counts.
        benchmark_error: The standard error of their share, as the benchmark states it.
        clean_accuracy: Mean over setups, in [0, 1].
        source_accuracy: Mean over the setups where it is known; None if it is in none.
    """

    attack: str
    variant: str
    victim: str
    knowledge: str
    goal: str
    defense: str
    sigma: float
    eps_over_sigma: float | None
    n: int
    successes: int
    trials: int
    success_rate: float
    ci_low: float
    ci_high: float
    interval: str
    higher: int | None
    lower: int | None
    p_value: float | None
    target_success: int
    benchmark_error: float
    clean_accuracy: float
    source_accuracy: float | None
    label: str
    color: str | None

    @classmethod
    def of(cls, own: Sequence[Result], control: Sequence[Result]) -> Self:
        """Of the results of one attack, victim and defence, and those of the same victim without attack.

        Args:
            own: At least one.
            control: Empty where there are none, or where they are ``own``.
        """
        bounds = rate_interval([r.successes for r in own], [r.trials for r in own])
        without = {r.setup: r.rate for r in control}
        changes = [r.rate - without[r.setup] for r in own if r.setup in without]
        higher, lower, p = sign_test(changes) if changes else (None, None, None)
        hits = sum(bool(r.success) for r in own)
        known = [r.source_accuracy for r in own if r.source_accuracy is not None]
        first = own[0]
        return cls(
            attack=first.attack,
            variant=first.variant,
            victim=first.victim,
            knowledge=first.knowledge,
            goal=first.goal,
            defense=first.defense,
            sigma=first.sigma,
            eps_over_sigma=first.eps / first.sigma if first.sigma else None,
            n=len(own),
            successes=sum(r.successes for r in own),
            trials=sum(r.trials for r in own),
            success_rate=sum(r.rate for r in own) / len(own),
            ci_low=bounds.low,
            ci_high=bounds.high,
            interval=bounds.method,
            higher=higher,
            lower=lower,
            p_value=p,
            target_success=hits,
            benchmark_error=benchmark_error(hits, len(own)),
            clean_accuracy=sum(r.clean_accuracy for r in own) / len(own),
            source_accuracy=sum(known) / len(known) if known else None,
            label=first.label or arm_label(first.defense),
            color=first.color or arm_color(first.defense),
        )

    def to_json(self) -> dict[str, Any]:
        """What a row of ``summary.json`` holds; how attack and arm are shown only where their names do not say it."""
        row = {one.name: getattr(self, one.name) for one in fields(self)}
        usual = {"label": arm_label(self.defense), "color": arm_color(self.defense), "variant": ""}
        return {name: value for name, value in row.items() if name not in usual or value != usual[name]}


def summarize(results: Sequence[Result]) -> list[Summary]:
    """One summary per attack, victim and defence.

    They are in order of appearance, attack by attack and victim by victim, the arm without an attack first. Where there is
    one, every other arm is compared with it setup by setup.
    """
    groups: defaultdict[tuple[str, str, str], list[Result]] = defaultdict(list)
    for result in results:
        groups[result.attack + result.variant, result.victim, result.defense].append(result)
    attacks, victims, defenses = (
        {name: place for place, name in enumerate(dict.fromkeys(group[part] for group in groups))} for part in range(3)
    )

    def place(group: tuple[str, str, str]) -> tuple[int, int, bool, int]:
        attack, victim, defense = group
        return attacks[attack], victims[victim], defense != NO_ATTACK, defenses[defense]

    rows = []
    for attack, victim, defense in sorted(groups, key=place):
        control = [] if defense == NO_ATTACK else groups.get((attack, victim, NO_ATTACK), [])
        rows.append(Summary.of(groups[attack, victim, defense], control))
    return rows


def write_summary(path: Path, results: Sequence[Result]) -> list[Summary]:
    """Write and return the summary rows; a function of the results alone, so that equal runs give equal files."""
    rows = summarize(results)
    write_json(path, [row.to_json() for row in rows])
    return rows
