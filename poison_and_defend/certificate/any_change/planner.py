"""Which vote for how many poisons: settled before a received image is looked at, by rules or on a labelled reference."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from poison_and_defend.certificate.any_change.ballots import Ints, Rule
from poison_and_defend.certificate.any_change.reference import Reference
from poison_and_defend.certificate.any_change.task import Votes
from poison_and_defend.core.errors import InputError

_SHARES = (0.03, 0.05, 0.07, 0.1, 0.13, 0.16, 0.2)
_PARTS = (10, 25, 100)
_WIDTHS = (0.01, 0.03)

Choice = dict[str, list[tuple[Rule, float | None]]]
"""For every family and each number of poisons: the vote, and what it certified on the reference, if labels chose it."""


def prescribed(reference: Reference, asked: Votes, ks: Sequence[int], n: int, classes: int, trusted: int) -> Choice:
    """Votes whose settings follow from numbers of rows, classes and poisons alone; no label is looked at.

    A radius holds as large a share of images as one class has. A head sees a twentieth of the rows that there are for each
    poison, 10 to 100. See :func:`trusted_weight` for what trusted rows add.

    Args:
        ks: Numbers of poisons.
        n: Received rows.
        trusted: Trusted rows.
    """
    radius = asked.radii[0] if asked.radii else reference.radius((asked.shares or [1 / classes])[0])
    choice: Choice = {"trusted": [(Rule("trusted"), None)] * len(ks)} if trusted else {}
    for family in asked.votes:
        for k in ks if family != "hybrid" or trusted else ():
            m = asked.m[0] if asked.m else int(min(100, max(10, n // (20 * max(1, k))), n // 2))
            weight = trusted_weight(k, n / classes, trusted / classes)
            if family in ("neighbours", "kernel"):
                rule = Rule(family, radius, _WIDTHS[0] if family == "kernel" else 0.0, weight)
            else:
                spread = asked.spread if family == "aggregation" else 0
                rule = Rule(family, m=max(m, spread), spread=spread)
            choice.setdefault(family, []).append((rule, None))
    return choice


def trusted_weight(k: int, rows_of_class: float, trusted_of_class: float) -> float:
    """What trusted rows add to counts at most, in rows of a class; 0 without.

    Eight times the poisons, and a class's worth for every 500 trusted rows of a class; two classes' worth at most. Settled on
    splits of CIFAR-10's training images. It is not chosen on a reference: of images that pretrained networks have seen, trusted
    rows say more than of others, and would be given too much weight.
    """
    return min(2.0, 8 * k / rows_of_class + trusted_of_class / 500) if trusted_of_class else 0.0


def candidates(reference: Reference, asked: Votes, trusted: bool) -> list[Rule]:
    """Every vote that is tried on a labelled reference; rows that vote by themselves are tried without trusted ones."""
    radii = asked.radii or [reference.radius(share) for share in asked.shares or _SHARES]
    rules: list[Rule] = [Rule("trusted")] if trusted else []
    for family in asked.votes:
        if family in ("neighbours", "kernel"):
            widths = (0.0,) if family == "neighbours" else _WIDTHS
            rules += [Rule(family, radius, width) for radius in radii for width in widths]
        elif family == "aggregation":
            rules += [Rule(family, m=m, spread=asked.spread) for m in asked.m or _PARTS if m >= asked.spread]
        elif family != "hybrid" or trusted:
            rules += [Rule(family, m=m) for m in asked.m or _PARTS]
    return rules


def family_of_rows(rule: Rule) -> bool:
    """Whether received rows vote by themselves, which trusted ones can join."""
    return rule.family in ("neighbours", "kernel")


def share_certified(answers: Ints, withstood: Ints, labels: Tensor, k: float) -> float:
    """Share of test images that are read right whatever ``k`` rows change into."""
    return float(np.mean((answers == labels.numpy()) & (withstood >= k)))


def choose(
    reference: Reference,
    asked: Votes,
    ks: list[int],
    rows_of_class: float,
    trusted: int,
    key: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Choice:
    """Try all candidates on a labelled reference, for as large a share of poisons of a class.

    Radii are chosen as if there were no trusted rows, which say too much there, and of all votes the best is one that does not
    lean on them.

    Args:
        ks: Numbers of poisons in the received set.
        rows_of_class: Of the received set, on average.
        trusted: Trusted rows.

    Returns:
        The best vote of every family; ``planned``: the best of those that do not need trusted rows, which join it where they
        can.

    Raises:
        InputError: If the reference is too small for that.
    """
    votes, tested, labels, scale = reference.tried(trusted, key, ks, rows_of_class)
    most = len(votes.labels) // 3
    if asked.m and max(asked.m) > most:
        raise InputError(f"m is {max(asked.m)}: parts of 1 to {most} images can be tried on the reference (--m, --reference)")
    rules = [rule for rule in candidates(reference, asked, trusted > 0) if rule.m <= most]
    found = votes.judge(rules, tested, progress)
    choice: Choice = {}
    for k in ks:
        tried: dict[str, list[tuple[Rule, float]]] = {}
        for rule, verdict in found.items():
            share = share_certified(verdict.labels, verdict.poisons, labels, k * scale)
            tried.setdefault(rule.family, []).append((rule, share))
        best = {family: max(own, key=lambda pair: pair[1]) for family, own in tried.items()}
        alone = [pair for family, pair in best.items() if family not in ("trusted", "hybrid")]
        if alone:
            best["planned"] = max(alone, key=lambda pair: pair[1])
        weight = trusted_weight(k, rows_of_class, trusted / votes.classes)
        for family, (rule, share) in best.items():
            own = replace(rule, weight=weight) if family_of_rows(rule) else rule
            choice.setdefault(family, []).append((own, share))
    return choice
