"""What a sample of images says about the noise that a set bears, and what it is too small to say."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypedDict

from poison_and_defend.reports.intervals import paired_interval

Verdict = Literal["within", "beyond", "unknown"]

# More images than anybody has.
_MOST = 2**33


class SigmaRow(TypedDict):
    """One sigma that was tried.

    Attributes:
        sigma: Standard deviation of the noise in [0, 1] units.
        accuracy: After sanitizing with it, in [0, 1].
        change: From the accuracy without it.
        low: Lower bound of the change's 95 % interval.
        high: Upper bound.
        verdict: ``within`` if the whole interval loses no more than is allowed, ``beyond`` if all of it loses more, else
            ``unknown``.
        images_needed: How many tested images would tell, if they were like these; None where these tell, or none would.
        trained: Whether the denoiser was trained on as much noise; None where nobody says how much it was.
        holds_against: Largest budgets by a map, in words, by what an attacker knows; None without a map.
    """

    sigma: float
    accuracy: float
    change: float
    low: float
    high: float
    verdict: Verdict
    images_needed: int | None
    trained: bool | None
    holds_against: dict[str, str] | None


class Sample(NamedTuple):
    """What was measured on.

    Attributes:
        tested: Images that were read before and after.
        drawn: Images of the sample, which the tested ones are part of.
        available: Images of the set.
        trained: The most noise that the denoiser was trained on; None where nobody says.
    """

    tested: int
    drawn: int
    available: int
    trained: float | None


def judge(sigma: float, before: Sequence[float], after: Sequence[float], max_drop: float, trained: float | None) -> SigmaRow:
    """Measure what a sigma costs.

    Args:
        sigma: What was tried.
        before: Of each image, the share of networks that read it right without noise, in [0, 1].
        after: Of each image, the share of networks that read it right after sanitizing, in [0, 1].
        max_drop: How much accuracy may be lost, as a share.
        trained: The most noise that the denoiser was trained on; None where nobody says.
    """
    n = len(before)
    changes = [two - one for one, two in zip(before, after, strict=True)]
    mean, square = sum(changes) / n, sum(change**2 for change in changes) / n
    low, high = paired_interval(n, mean, square)
    verdict = _verdict(low, high, max_drop)
    return {
        "sigma": sigma,
        "accuracy": sum(after) / n,
        "change": mean,
        "low": low,
        "high": high,
        "verdict": verdict,
        "images_needed": _needed(n, mean, square, max_drop) if verdict == "unknown" else None,
        "trained": None if trained is None else sigma <= trained,
        "holds_against": None,
    }


def recommended(rows: Sequence[SigmaRow]) -> float | None:
    """The largest sigma that is ``within`` with all smaller ones: a later one that does well by chance does not count."""
    best = None
    for row in rows:
        if row["verdict"] != "within":
            break
        best = row["sigma"]
    return best


def by_estimate(rows: Sequence[SigmaRow], max_drop: float) -> float | None:
    """Likewise by the measured change alone, however uncertain."""
    best = None
    for row in rows:
        if row["change"] < -max_drop:
            break
        best = row["sigma"]
    return best


def describe_verdict(row: SigmaRow) -> str:
    """A few words for a table."""
    text = {"within": "within", "beyond": "costs more", "unknown": "cannot tell"}[row["verdict"]]
    if row["images_needed"] is not None:
        text += f" ({_rounded(row['images_needed']):,} would)"
    return text + (", not trained on" if row["trained"] is False else "")


def describe(rows: Sequence[SigmaRow], max_drop: float, sample: Sample) -> str:
    """What is known, line by line.

    Args:
        rows: By increasing sigma.
        max_drop: How much accuracy may be lost, as a share.
        sample: What they were measured on.
    """
    bound, best, likely = f"{max_drop:.1%} of accuracy", recommended(rows), by_estimate(rows, max_drop)
    if best is not None:
        lines = [f"recommended: --sigma {best:g}, the largest that is known, like all below it, to cost at most {bound}"]
    elif all(row["verdict"] == "beyond" for row in rows):
        lines = [f"every sigma costs more than {bound}: try smaller ones (--sigmas) or another denoiser (--denoiser)"]
    else:
        lines = [f"of no sigma is it known, as of all below it, that it costs at most {bound}"]
    if likely is not None and likely != best:
        lines.append(f"by what was measured alone it would be --sigma {likely:g}")
    for verdict, text in (("within", f"cost at most {bound}"), ("beyond", f"cost more than {bound}")):
        if found := [f"{row['sigma']:g}" for row in rows if row["verdict"] == verdict]:
            lines.append(f"{text}: {', '.join(found)}")
    if unknown := [row for row in rows if row["verdict"] == "unknown"]:
        lines.append(f"{sample.tested:,} tested images cannot tell: {', '.join(map(_unknown, unknown))}{_how(unknown, sample)}")
    if outside := [f"{row['sigma']:g}" for row in rows if row["trained"] is False]:
        lines.append(f"the denoiser was trained on noise up to {sample.trained:g} only, and not on: {', '.join(outside)}")
    return "\n".join(lines)


def _unknown(row: SigmaRow) -> str:
    needed = row["images_needed"]
    return f"{row['sigma']:g} ({'no number would' if needed is None else f'about {_rounded(needed):,} would'})"


def _how(rows: Sequence[SigmaRow], sample: Sample) -> str:
    """The option for the sample that would tell all of these, or how far the set is from it."""
    most = max((row["images_needed"] or 0 for row in rows), default=0)
    drawn = -(-most * sample.drawn // sample.tested)
    if drawn > sample.available:
        return f"; the set has {sample.available:,} in all"
    return f"; --sample {_rounded(drawn)} for all of them" if drawn else ""


def _verdict(low: float, high: float, max_drop: float) -> Verdict:
    return "within" if low >= -max_drop else "beyond" if high < -max_drop else "unknown"


def _needed(n: int, mean: float, square: float, max_drop: float) -> int | None:
    """The smallest number of images whose interval would lie on one side, if mean and scatter stayed what they are."""

    def decided(count: int) -> bool:
        return _verdict(*paired_interval(count, mean, square), max_drop) != "unknown"

    most = n
    while not decided(most):
        most *= 2
        if most > _MOST:
            return None
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if decided(middle) else (middle, most)
    return most


def _rounded(count: int) -> int:
    """Up to two digits: a forecast is no count."""
    unit = 10 ** max(len(str(count)) - 2, 0)
    return -(-count // unit) * unit
