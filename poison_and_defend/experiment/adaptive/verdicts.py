"""From numbers to verdicts: what passes as a sound adaptive attack, and what does not. Nothing is computed here.

The checks are those of Carlini et al., "On Evaluating Adversarial Robustness" (arXiv:1902.06705); Athalye, Carlini, Wagner,
"Obfuscated Gradients Give a False Sense of Security" (ICML 2018); Tramer et al., "On Adaptive Attacks to Adversarial Example
Defenses" (NeurIPS 2020); Zimmermann et al., "Increasing Confidence in Adversarial Robustness Evaluations" (NeurIPS 2022).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from poison_and_defend.experiment.adaptive.curves import Rates, beyond_noise
from poison_and_defend.experiment.adaptive.task import NAMES
from poison_and_defend.reports.adaptive_checks import Check
from poison_and_defend.reports.intervals import clopper_pearson, mean_interval

SAME_SHARE = 0.001
NEAR_ALL = 0.9
FLAT = 0.1
NEAR_OBJECTIVE = 1.1
GRADIENT_ERROR = {"float32": 0.01, "bfloat16": 0.1}
NEAR_UNDEFENDED = 0.1
ENOUGH = 20


def identity(differing: float, largest: int) -> Check:
    """Check 1.

    Args:
        differing: Share of the poisons' values that are more than one grey level apart.
        largest: Largest difference, in grey levels.
    """
    return Check(
        1, NAMES[1],
        f"{differing:.2%} of all values differ by more than a grey level, the largest by {largest}",
        f"at most {SAME_SHARE:.1%}, which rounding explains",
        "pass" if differing <= SAME_SHARE else "fail",
        {"share": differing, "largest": largest},
    )  # fmt: skip


def unbounded(rates: Rates, steps: int | None = None) -> Check:
    """Check 2: of poisons that may be any image.

    Args:
        steps: How many the attack took, where these are not its own.
    """
    rate, told = fmean(rates), "" if steps is None else f", in {steps} steps"
    measured = f"success {rate:.0%} of {len(rates)} setups at eps 255/255 after the defence{told}"
    return Check(
        2, NAMES[2], measured, f"at least {NEAR_ALL:.0%}",
        "pass" if rate >= NEAR_ALL else "fail", {"rate": rate, "n": len(rates), **({} if steps is None else {"steps": steps})},
    )  # fmt: skip


@dataclass(frozen=True)
class Course:
    """The objective of one setup, lower is better: at the start, as optimised, and on held-out draws on the way."""

    start: float
    quarter: float
    half: float
    end: float
    optimised: float


def converged(courses: Sequence[Course]) -> Check:
    """Check 4, on the means over setups."""
    start, quarter, half, end, optimised = (
        fmean(getattr(course, name) for course in courses) for name in ("start", "quarter", "half", "end", "optimised")
    )
    gain, late = start - end, half - end
    share = late / gain if gain > 0 else float("inf")
    ratio = end / optimised if optimised else float("inf") if end else 1.0
    near = ratio <= NEAR_OBJECTIVE
    if not near and len(courses) > 1:
        low, _ = mean_interval([course.end - course.optimised for course in courses])
        near = low <= 0
    gained = f"{share:.0%} of all gain is in the second half" if gain > 0 else "there is no gain"
    return Check(
        4, NAMES[4],
        f"held out {quarter:.3f} after a quarter, {half:.3f} after half, {end:.3f} in the end, from {start:.3f}; {gained}; "
        f"{ratio:.2f} of the optimised {optimised:.3f}",
        f"at most {FLAT:.0%} of the gain in the second half; at most {NEAR_OBJECTIVE} of the optimised one, or no more above "
        "it than the 95 % interval over setups allows",
        "pass" if gain > 0 and share <= FLAT and near else "fail",
        {"start": start, "quarter": quarter, "half": half, "end": end, "optimised": optimised, "ratio": ratio},
    )  # fmt: skip


def gradient(error: float, precision: str, directions: int) -> Check:
    """Check 5.

    Args:
        error: Length of the difference of the attack's derivatives from finite differences, relative to theirs.
        precision: Of the denoiser while crafting.
        directions: In how many it was measured.
    """
    bound = GRADIENT_ERROR[precision]
    return Check(
        5, NAMES[5], f"relative error {error:.2g} in {directions} directions, against central differences in double precision",
        f"at most {bound:g}, what {precision} leaves", "pass" if error <= bound else "fail",
        {"error": None if error == float("inf") else error, "directions": directions, "precision": precision},
    )  # fmt: skip


def hole(through: Rates, undefended: Rates) -> Check:
    """Check 6.

    Args:
        through: Success of poisons made for the defence with the hole, after it.
        undefended: Of the plain attack's poisons, undefended.
    """
    lost, reached = fmean(undefended) - fmean(through), fmean(undefended)
    measured = f"success {fmean(through):.0%} through a defence that lets a coarse image by, {reached:.0%} undefended"
    numbers = {"through": fmean(through), "undefended": reached}
    if reached < 0.5:
        measured += ": the plain attack is too weak to tell (--attack.steps, --attack.eps)"
        return Check(6, NAMES[6], measured, "undefended success of 50% or more", "not measured", numbers)
    return Check(
        6, NAMES[6], measured, f"at most {NEAR_UNDEFENDED:.0%} of all setups lost",
        "pass" if lost <= NEAR_UNDEFENDED + 1e-9 else "fail", numbers,
    )  # fmt: skip


def gradient_free(starts: Sequence[float], gradients: Sequence[float], estimates: Sequence[float], evaluations: str) -> Check:
    """Check 7, on the same setups.

    Args:
        starts: The objective before the first step.
        gradients: In the end, on held-out draws, by the attack's gradient.
        estimates: In the end, on the same draws, by SPSA.
        evaluations: What both took, in words.
    """
    start, own, other = fmean(starts), fmean(gradients), fmean(estimates)
    return Check(
        7, NAMES[7], f"objective {own:.3f} by the gradient, {other:.3f} by SPSA, from {start:.3f}; {evaluations}",
        "the gradient's is below the start, and below SPSA's", "pass" if own < other and own < start else "fail",
        {"start": start, "gradient": own, "spsa": other, "n": len(starts)},
    )  # fmt: skip


def floor(adaptive: Rates, plain: Rates, noise: Rates) -> Check:
    """Check 8: after the defence, the best of two attacks as a method, never the better one of each victim."""
    own, blind, random = fmean(adaptive), fmean(plain), fmean(noise)
    best, name = max((own, "adaptive"), (blind, "plain"))
    weaker = beyond_noise(adaptive, plain) < 0
    return Check(
        8, NAMES[8],
        f"after the defence: random noise {random:.0%}, plain {blind:.0%}, adaptive {own:.0%}; best method: {name}, {best:.0%}",
        "no lower than random noise, and not below plain by more than the 95 % interval of the paired difference",
        "fail" if own < random or weaker else "pass",
        {"adaptive": own, "plain": blind, "random_noise": random, "best": best, "best_method": name},
    )  # fmt: skip


def still_poisons(undefended: Rates, no_attack: Rates) -> Check:
    """Check 9."""
    return Check(
        9, NAMES[9], f"success {fmean(undefended):.0%} undefended, {fmean(no_attack):.0%} without an attack",
        "above no attack by more than the 95 % interval of the paired difference",
        "pass" if beyond_noise(undefended, no_attack) > 0 else "fail",
        {"undefended": fmean(undefended), "no_attack": fmean(no_attack)},
    )  # fmt: skip


def enough(successes: dict[str, int], setups: int, paired: bool) -> Check:
    """Check 10.

    Args:
        successes: Setups whose target is misread after the defence, by the victim's network.
        setups: How many there are.
        paired: Whether all runs have the same targets and classes.
    """
    bounds = {victim: clopper_pearson(count, setups) for victim, count in successes.items()}
    shown = [
        f"{victim}: {count} of {setups}, {bounds[victim][0]:.0%} to {bounds[victim][1]:.0%}"
        for victim, count in successes.items()
    ]
    victims = f"{len(successes)} victim{'s' * (len(successes) > 1)} a setup"
    unlike = "" if paired else "; runs do not have the same targets"
    return Check(
        10, NAMES[10], f"{victims}; {'; '.join(shown)} (exact, 95 %){unlike}",
        f"at least {ENOUGH} setups, the same in all runs: 0 of {ENOUGH} still allows {clopper_pearson(0, ENOUGH)[1]:.0%}",
        "pass" if setups >= ENOUGH and paired else "fail",
        {"setups": setups, "victims": len(successes), "intervals": {name: list(bound) for name, bound in bounds.items()}},
    )  # fmt: skip


def purified_once(differing: int, rows: int, draws: int, most: int) -> Check:
    """Check 11.

    Args:
        differing: Rows that are other bytes when they are sanitized again, or than what victims trained on.
        rows: How many were looked at.
        draws: Versions of each row that victims train on.
        most: The largest number of results of one setup and victim.
    """
    return Check(
        11, NAMES[11],
        f"{differing} of {rows} poisons differ when sanitized twice; victims train on {draws} draw{'s' * (draws > 1)}; "
        f"{most} result{'s' * (most > 1)} a victim",
        "no row differs, one result a victim",
        "pass" if differing == 0 and most == 1 else "fail",
        {"differing": differing, "rows": rows, "draws": draws, "results": most},
    )  # fmt: skip


def not_measured(number: int, why: str) -> Check:
    """A check that could not be made, with the reason."""
    return Check(number, NAMES[number], why, "", "not measured")
