import pytest
import torch

from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.reading.files import read_json
from poison_and_defend.experiment.steps import foresee
from poison_and_defend.experiment.steps.craft import craft_poisons
from poison_and_defend.experiment.steps.foresee import seconds_through_defense
from poison_and_defend.experiment.steps.surrogates import attacker_models
from tests.countermeasures import arms


@pytest.fixture
def adaptive(plan, denoiser_folder):
    options = {"denoiser": denoiser_folder, "num_poisons": 3, "arms": arms(["none", "diffusion"])}
    return lambda **changes: plan(**options, **({"knowledge": "defense", "known_draws": 2} | changes))


def test_time_is_told_for_all_steps_draws_and_held_out_draws(adaptive, monkeypatch) -> None:
    # The clock goes on by one whenever it is asked: a pass there takes a second, and so does one there and back.
    seconds = iter(range(1000))
    monkeypatch.setattr(foresee.time, "perf_counter", lambda: float(next(seconds)))
    # 2 setups, 2 steps of 2 draws there and back, 3 x 64 there.
    assert seconds_through_defense(adaptive(), 2, Ranks()) == 2 * (4 + 192)
    # Knowing the seed there is one draw, and no other is held out.
    assert seconds_through_defense(adaptive(knowledge="seed"), 1, Ranks()) == 2 + 3


def test_it_is_told_before_the_first_step_and_only_to_who_waits_for_it(adaptive, capsys) -> None:
    told = "the way through the known defence alone takes about"
    for own, count in ((adaptive(), 1), (adaptive(), 0), (adaptive(knowledge="oblivious", name="other"), 0)):
        craft_poisons(own, attacker_models(own, Ranks()), Ranks())
        assert capsys.readouterr().out.count(told) == count


def test_what_has_no_gradient_is_said(adaptive, plan, capsys) -> None:
    told = "jpeg has no gradient: the attack sees through it as if it changed nothing"
    for own, count in ((plan(arms=arms(["none", "jpeg"]), knowledge="defense"), 1), (adaptive(name="other"), 0)):
        craft_poisons(own, attacker_models(own, Ranks()), Ranks())
        assert capsys.readouterr().out.count(told) == count


def test_without_held_out_draws_poisons_are_the_same_and_nothing_is_told_of_them(adaptive) -> None:
    made = []
    for number, held_out in enumerate((3, 0)):
        own = adaptive(known_held_out=held_out, name=f"held_out_{number}")
        made.append(craft_poisons(own, attacker_models(own, Ranks()), Ranks()))
        record = read_json(own.folder / "poisons" / "setup_000.json", "no poisons", "--name")
        assert set(record.get("objective_held_out", {})) == ({"1", "2"} if held_out else set())
    assert all(torch.equal(one.images, other.images) for one, other in zip(*made, strict=True))
    assert own.crafted_with == adaptive(known_held_out=3).crafted_with
