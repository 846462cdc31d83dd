"""What the attacker of an experiment knows of its defence."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.arm import Arm
from poison_and_defend.defenses.known import KnownDefense
from poison_and_defend.defenses.rewriters.base import Rewriter
from poison_and_defend.defenses.rewriters.gaussian import GaussianRewriter
from poison_and_defend.defenses.rewriters.in_order import in_order
from poison_and_defend.diffusion.denoiser import load_denoiser
from poison_and_defend.diffusion.noise_level import parse_sigma
from poison_and_defend.experiment.task.options import Experiment, Surrogates
from poison_and_defend.lightning_modules.networks.frozen import fastest_precision

IN_WORDS = {
    "oblivious": "",
    "defense": "knows the defence",
    "surrogate_defense": "knows a defence like it",
    "seed": "knows its noise",
}
"""What readers are told of an attacker, beside what his attack is."""


def check_attackers(attackers: Sequence[Any]) -> None:
    """Refuse what is no choice of attackers to compare.

    Args:
        attackers: What each knows, as ``--knowledge`` takes it.

    Raises:
        InputError: If there is none, one is there twice, or one is nobody's knowledge.
    """
    if not attackers or len(set(attackers)) < len(attackers) or not set(attackers) <= set(IN_WORDS):
        shown = ", ".join(map(str, attackers))
        raise InputError(f"attackers are [{shown}]: name some of {', '.join(IN_WORDS)}, each once (--attackers)")


def known_defense(experiment: Experiment, arms: Mapping[str, Arm]) -> KnownDefense | None:
    """The defence that poisons are optimised through; None for an attacker who knows of none.

    Raises:
        InputError: If there is none that could be known, or not in this way.
    """
    threat, half = experiment.threat, _in_half_precision(experiment.surrogates)
    if threat.knowledge == "oblivious":
        given = {"--known_arm": threat.known_arm, "--known_denoiser": threat.known_denoiser}
        for option, value in given.items():
            if value is not None:
                raise InputError(f"{option} is {value}, and the attacker knows of no defence (--knowledge defense)")
        return None
    if not threat.attack.looks_through:
        raise InputError(
            f"{threat.attack.name} does not look at its poisons through a defence: take their objective over the views of a "
            "Sight, and say looks_through (--knowledge)"
        )
    if threat.poisons_from is not None:
        raise InputError(f"poisons are read, not crafted, and knowledge is {threat.knowledge} (--poisons_from, --knowledge)")
    arm = known_arm(threat.known_arm, arms)
    rewriter = in_order(arm.rewriters)
    assert rewriter is not None
    if threat.knowledge == "seed":
        return KnownDefense(rewriter, knows_seed=True, half=half)
    unseen = threat.known_held_out
    if threat.knowledge == "defense":
        if threat.known_denoiser is not None:
            raise InputError(
                f"known_denoiser is {threat.known_denoiser}, and the attacker has the defender's own (--knowledge "
                "surrogate_defense)"
            )
        return KnownDefense(rewriter, draws=threat.known_draws, half=half, held_out=unseen)
    sigmas = [parse_sigma(sigma, "--known_sigmas") for sigma in threat.known_sigmas]
    if len(sigmas) != 2 or not 0 < sigmas[0] <= sigmas[1]:
        shown = ", ".join(f"{sigma:g}" for sigma in sigmas)
        raise InputError(
            f"known_sigmas are [{shown}]: the least, above 0, and the most are needed (--known_sigmas [0.05,0.25])"
        )
    own = _with_denoiser(rewriter, threat.known_denoiser)
    return KnownDefense(own, draws=threat.known_draws, sigmas=(sigmas[0], sigmas[1]), half=half, held_out=unseen)


def _in_half_precision(options: Surrogates) -> bool:
    """Whether what is known computes in bfloat16: as the surrogates do that are behind it."""
    if options.frozen:
        return fastest_precision(torch.device("cuda" if torch.cuda.is_available() else "cpu")) == torch.bfloat16
    return options.precision == "bfloat16"


def settings_of_knowledge(experiment: Experiment, known: KnownDefense | None) -> dict[str, Any]:
    """What poisons depend on besides; nothing where the attacker knows of no defence."""
    if known is None:
        return {}
    told = {"knowledge": experiment.threat.knowledge, "draws": known.draws, "sigmas": known.sigmas, "half": known.half}
    return {"known_defense": told | {"rewriter": known.rewriter.settings()}}


def known_arm(name: str | None, arms: Mapping[str, Arm]) -> Arm:
    """The arm of this name, or the first that rewrites images; one that adds noise and denoises goes before others.

    Raises:
        InputError: If there is none.
    """
    able = [arm for arm in arms.values() if arm.rewriters and arm.attacked]
    if name is not None:
        chosen = [arm for arm in able if arm.name == name]
        if not chosen:
            known = ", ".join(arm.name for arm in able) or "none"
            raise InputError(f"known_arm is {name!r}: arms that rewrite images are {known} (--known_arm)")
        return chosen[0]
    first = sorted(able, key=lambda arm: not any(step.denoiser is not None and step.sigma for step in arm.rewriters))
    if not first:
        raise InputError("no arm rewrites images, so that there is no defence to know: name one (--defenses [none,diffusion])")
    return first[0]


def _with_denoiser(rewriter: Rewriter, name: str | None) -> Rewriter:
    """The same defence with the attacker's own denoiser."""
    if not isinstance(rewriter, GaussianRewriter) or rewriter.denoiser is None:
        raise InputError(
            f"{rewriter.name} has no denoiser that an attacker could train for himself: let him know an arm that has one "
            "(--known_arm, --knowledge defense)"
        )
    if name is None:
        raise InputError("the attacker's own denoiser is not named (--known_denoiser)")
    theirs = rewriter.denoiser
    try:
        own = load_denoiser(name, steps=theirs.steps)
    except InputError as error:
        # What loads denoisers knows the defender's option.
        raise InputError(str(error).replace("(--denoiser)", "(--known_denoiser)")) from error
    if (own.channels, own.size) != (theirs.channels, theirs.size):
        raise InputError(
            f"the attacker's denoiser {name} takes images of {own.channels} x {own.size[0]} x {own.size[1]}, the defender's of "
            f"{theirs.channels} x {theirs.size[0]} x {theirs.size[1]}: train one of that size (--known_denoiser)"
        )
    return rewriter.using(own)
