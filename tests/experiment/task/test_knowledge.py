"""What an experiment's attacker is let know of the defence, and what he cannot know."""

import pytest
import torch

from poison_and_defend.attacks import BullseyePolytope
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import Diffusion, Jpeg, NoiseOnly
from poison_and_defend.diffusion.denoiser import load_denoiser
from poison_and_defend.experiment.task import knowledge
from poison_and_defend.experiment.task.options import Surrogates
from tests.countermeasures import arms
from tests.tiny_denoisers import folders

__all__ = ["folders"]

DEFENDED = {"arms": arms(["no_attack", "none", "jpeg", "noise_only", "diffusion"])}


def refused(plan, match: str, **changes) -> None:
    with pytest.raises(InputError, match=match) as error:
        plan(**{**DEFENDED, **changes})
    assert "\n" not in str(error.value)


def test_who_is_told_nothing_has_nothing_and_poisons_are_who_they_were(plan) -> None:
    found = plan(**DEFENDED)
    assert found.known is None and found.variant == "" and "known_defense" not in found.settings
    assert found.crafted_with == plan(**DEFENDED, knowledge="oblivious").crafted_with


def test_the_arm_that_noises_and_denoises_is_the_one_that_is_known_unless_another_is_named(plan) -> None:
    found = plan(**DEFENDED, knowledge="defense")
    assert (found.known.rewriter.name, found.known.draws, found.variant) == ("diffusion", 4, "knows the defence")
    assert plan(**DEFENDED, knowledge="defense", known_arm="jpeg").known.rewriter.name == "jpeg"
    found = plan(arms=arms(["none", "noise_only"]), knowledge="defense", known_draws=7, precision="bfloat16")
    assert (found.known.rewriter.name, found.known.draws, found.known.half) == ("noise_only", 7, True)


@pytest.mark.parametrize("fastest", [torch.float32, torch.bfloat16])
def test_a_defence_before_frozen_features_computes_as_they_do(monkeypatch, fastest) -> None:
    monkeypatch.setattr(knowledge, "fastest_precision", lambda device: fastest)
    in_half = knowledge._in_half_precision
    assert in_half(Surrogates(frozen=True)) == (fastest == torch.bfloat16)
    assert not in_half(Surrogates()) and in_half(Surrogates(precision="bfloat16"))


def test_all_that_is_known_is_part_of_what_poisons_are_made_with(plan) -> None:
    ways = [
        {},
        {"knowledge": "defense"},
        {"knowledge": "defense", "known_draws": 5},
        {"knowledge": "defense", "known_arm": "noise_only"},
        {"knowledge": "defense", "sigma": 0.1},
        {"knowledge": "seed"},
        {"knowledge": "surrogate_defense", "known_denoiser": "digits"},
        {"knowledge": "surrogate_defense", "known_denoiser": "digits", "known_sigmas": [0.1, "64/255"]},
    ]
    assert len({plan(**DEFENDED, **way).crafted_with for way in ways}) == len(ways)


def test_who_knows_a_defence_like_it_has_his_own_denoiser_and_guesses_sigma(plan, folders) -> None:
    theirs, own = map(str, folders)
    guess = {"knowledge": "surrogate_defense", "known_denoiser": own, "known_sigmas": [0.1, "64/255"]}
    found = plan(**DEFENDED, denoiser=theirs, **guess)
    assert found.known.sigmas == (0.1, 64 / 255) and not found.known.knows_seed
    (rewriter,) = found.arms["diffusion"].rewriters
    assert found.known.rewriter.denoiser.fingerprint == load_denoiser(own).fingerprint
    assert rewriter.denoiser.fingerprint == load_denoiser(theirs).fingerprint


def test_what_cannot_be_known_is_refused(plan) -> None:
    none = r"^no arm rewrites images.*--defenses \[none,diffusion\]"
    refused(plan, none, knowledge="defense", arms=arms(["no_attack", "none"]))
    refused(
        plan,
        r"^known_arm is 'none': arms that rewrite images are jpeg, .*\(--known_arm\)",
        knowledge="defense",
        known_arm="none",
    )
    refused(plan, r"^--known_arm is jpeg, and the attacker knows of no defence", known_arm="jpeg")
    refused(plan, r"^known_draws is 0.*--known_draws 4", knowledge="defense", known_draws=0)
    refused(plan, r"^known_held_out is -1.*--known_held_out 64", knowledge="defense", known_held_out=-1)
    refused(plan, r"^poisons are read, not crafted", knowledge="defense", poisons_from="nowhere")
    refused(plan, r"denoiser is not named \(--known_denoiser\)", knowledge="surrogate_defense")
    own = {"knowledge": "surrogate_defense", "known_denoiser": "digits"}
    refused(plan, r"^known_sigmas are \[0.3, 0.1\]: .*--known_sigmas \[0.05,0.25\]", **own, known_sigmas=[0.3, 0.1])
    refused(plan, r"^known_sigmas are \[0.3\]: ", **own, known_sigmas=[0.3])
    refused(plan, r"^jpeg has no denoiser .*--known_arm", **own, known_arm="jpeg")
    refused(plan, r"cifar10 takes images of 3 x 32 x 32, the defender's of 1 x 32 x 32", **own | {"known_denoiser": "cifar10"})
    refused(plan, r"there is no denoiser .nowhere.*\(--known_denoiser\)$", **own | {"known_denoiser": "nowhere"})
    refused(plan, r"known_denoiser is digits, and the attacker has the defender's own", **own | {"knowledge": "defense"})


def test_an_attack_that_looks_at_poisons_as_they_are_is_refused(plan, monkeypatch) -> None:
    monkeypatch.setattr(BullseyePolytope, "looks_through", False)
    refused(plan, r"^bullseye_polytope does not look at its poisons through a defence: .*Sight", knowledge="defense")


def test_rewriters_of_a_chain_are_all_known(plan) -> None:
    from poison_and_defend.defenses import Chain

    chain = Chain([Jpeg(50), NoiseOnly(sigma=0.1), Diffusion(sigma=0.2)])
    known = plan(arms={"none": None, "both": chain}, knowledge="defense").known
    assert [step.name for step in known.rewriter.rewriters] == ["jpeg", "noise_only", "diffusion"]
