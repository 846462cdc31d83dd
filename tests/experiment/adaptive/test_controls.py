"""Controls on real attacks and denoisers: what is sound passes, and each is shown the fault that it is there for."""

import pytest
import torch

from poison_and_defend.attacks import BullseyePolytope, WitchesBrew
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.defenses import Diffusion, Jpeg, NoiseOnly, known
from poison_and_defend.defenses.known import straight_through
from poison_and_defend.experiment.adaptive import controls, verdicts
from poison_and_defend.experiment.adaptive.gradients import Probe, Seen, gradient_error, in_double
from poison_and_defend.experiment.steps.craft import craft_poisons, craft_setups
from tests.countermeasures import arms

RANKS = Ranks()


@pytest.fixture
def adaptive(plan, denoiser_folder):
    """An attacker who knows a small denoiser, changed by keyword."""

    def build(**changes):
        options = {"knowledge": "defense", "known_draws": 1, "denoiser": denoiser_folder, "sigma": 0.1, "num_poisons": 3}
        return plan(**{**options, "arms": arms(["no_attack", "none", "diffusion"]), **changes})

    return build


def detached(rewriter, half, images, noise):
    """What an attack gets that forgot the gradient: the defence's output, and nothing back."""
    return images * 0 + REWRITTEN(rewriter, half, images, noise).detach()


def passed_through(rewriter, half, images, noise):
    """As if the defence changed nothing."""
    return images + (REWRITTEN(rewriter, half, images, noise) - images).detach()


REWRITTEN = known._rewritten


@pytest.mark.parametrize(
    "attack", [BullseyePolytope("64/255", steps=3), WitchesBrew("64/255", steps=2, restarts=1, flip=False)]
)
def test_an_attacks_gradient_is_the_defences(attack, adaptive) -> None:
    found = controls.compare_gradient(adaptive(attack=attack, denoise_steps=2, outside_threat_model=True), 1, RANKS)
    assert verdicts.gradient(found["error"], "float32", found["directions"]).verdict == "pass"


@pytest.mark.parametrize("fault", [detached, passed_through])
def test_a_gradient_that_is_not_the_defences_is_noticed(fault, adaptive, monkeypatch) -> None:
    monkeypatch.setattr(known, "_rewritten", fault)
    found = controls.compare_gradient(adaptive(), 1, RANKS)
    error = float("inf") if found["error"] is None else found["error"]
    assert verdicts.gradient(error, "float32", found["directions"]).verdict == "fail"


def test_a_probe_changes_nothing(adaptive) -> None:
    own = adaptive()
    models = controls.models_of(own, RANKS)
    plain, probed = (craft_setups(own, own.setups, models, RANKS, sanitizing=s) for s in (None, Probe(own.known)))
    assert all(torch.equal(a.images, b.images) for a, b in zip(plain, probed, strict=True))


def test_what_has_no_gradient_is_not_compared(adaptive) -> None:
    assert straight_through(Jpeg(50)) and not straight_through(NoiseOnly(sigma=0.1))
    with pytest.raises(InputError, match="has no gradient"):
        controls.compare_gradient(adaptive(arms=arms(["none", "jpeg"])), 1, RANKS)


def test_the_copy_in_double_precision_leaves_the_defence_as_it_is(denoiser) -> None:
    rewriter = Diffusion(sigma=0.1, denoiser=denoiser, seed=0)
    other = in_double(rewriter)
    assert next(other.denoiser.parameters()).dtype == torch.float64
    assert next(rewriter.denoiser.parameters()).dtype == torch.float32


def test_a_look_without_a_gradient_is_infinitely_wrong(denoiser) -> None:
    look = Seen(torch.rand(1, 1, 32, 32), torch.randn(1, 1, 32, 32))
    assert gradient_error(Diffusion(sigma=0.1, denoiser=denoiser, seed=0), look, 2) == float("inf")


def gradient_free(own) -> str:
    """The verdict on a crafted plan, as the command comes to it."""
    ends: list[list[float]] = []
    starts: list[list[float]] = []
    models = controls.models_of(own, RANKS)
    crafted = craft_setups(
        own, own.setups, models, RANKS,
        progress=lambda value: starts.append(value.tolist()), watch=lambda step, value: ends.append(value.tolist()),
    )  # fmt: skip
    assert len(crafted) == len(own.setups)
    by_spsa = controls.by_spsa(own, len(own.setups), 8, RANKS)
    return verdicts.gradient_free(starts[0], ends[-1], by_spsa["ends"], "").verdict


SMALL = {"attack": BullseyePolytope("64/255", steps=8, learning_rate=0.02), "arms": arms(["none", "noise_only"])}


def test_spsa_does_not_beat_a_gradient(adaptive) -> None:
    assert gradient_free(adaptive(**SMALL)) == "pass"


def test_spsa_beats_a_gradient_that_was_lost(adaptive, monkeypatch) -> None:
    monkeypatch.setattr(known, "_rewritten", detached)
    assert gradient_free(adaptive(**SMALL)) == "fail"


def purified(own) -> str:
    craft_poisons(own, controls.models_of(own, RANKS), RANKS)
    return verdicts.purified_once(**controls.purified_twice(own, "diffusion", RANKS), most=1).verdict


def test_rows_are_the_same_when_purified_twice(adaptive) -> None:
    assert purified(adaptive()) == "pass"


def test_noise_that_is_fresh_each_time_is_noticed(adaptive, monkeypatch) -> None:
    own = adaptive()
    monkeypatch.setattr(
        Diffusion, "add_noise", lambda self, images, keys, draws=None: images / 255 + 0.1 * torch.randn(images.shape)
    )
    assert purified(own) == "fail"


def test_victims_on_several_draws_have_each_row_the_same_too(adaptive) -> None:
    assert purified(adaptive(arms={"none": None, "diffusion": Diffusion(draws=2)})) == "pass"


def test_controls_are_kept_for_what_they_depend_on(tmp_path) -> None:
    calls = []

    def compute():
        calls.append(1)
        return {"value": len(calls)}

    path = tmp_path / "controls" / "it.json"
    found = [controls.kept(path, of, RANKS, compute)["value"] for of in ([1], [1], [2])]
    assert found == [1, 1, 2]
