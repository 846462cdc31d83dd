import copy
import json

import pytest
import torch

from poison_and_defend.attacks import (
    Attack,
    BullseyePolytope,
    ConvexPolytope,
    HiddenTrigger,
    LabelConsistent,
    PoisonFrogs,
    SleeperAgent,
    WitchesBrew,
)
from poison_and_defend.attacks.threat.surrogate import CraftBatch
from poison_and_defend.core.errors import InputError

ATTACKS: list[type[Attack]] = [
    BullseyePolytope,
    ConvexPolytope,
    HiddenTrigger,
    LabelConsistent,
    PoisonFrogs,
    SleeperAgent,
    WitchesBrew,
]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, r"steps is 0.*--attack\.steps"),
        ({"eps": "0/255"}, r"eps is 0.*--attack\.eps"),
        ({"eps": 2}, r"eps is 2.*--attack\.eps"),
        ({"norm": "l1"}, r"'l1'.*--attack\.norm"),
    ],
)
def test_arguments_out_of_range_are_refused(attack: type[Attack], arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        attack(**arguments)


def step_option(attack: type[Attack]) -> str:
    return "step_size" if attack is LabelConsistent else "learning_rate"


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_steps_of_no_size_are_refused(attack: type[Attack], value: float) -> None:
    name = step_option(attack)
    with pytest.raises(InputError, match=rf"{name} is {value:g}.*--attack\.{name}"):
        attack(**{name: value})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"restarts": 0}, r"restarts is 0.*--attack\.restarts"),
        ({"max_shift": 1.0}, r"max_shift is 1.*--attack\.max_shift"),
        ({"max_shift": -0.1}, r"max_shift is -0\.1.*--attack\.max_shift"),
    ],
)
def test_brewing_arguments_out_of_range_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        WitchesBrew(**arguments)


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_setting_is_told_in_json(attack: type[Attack]) -> None:
    name = step_option(attack)
    told = attack("4/255", "linf", steps=7, **{name: 0.5}).arguments()
    assert json.loads(json.dumps(told)) == told
    assert told | {"name": attack.name, "norm": "linf", "eps": 4 / 255, "steps": 7, name: 0.5} == told


def test_settings_tell_runs_apart() -> None:
    kinds = [{}, {"restarts": 2}, {"max_shift": 0.1}, {"flip": False}, {"steps": 3}, {"norm": "l2"}, {"eps": 0.1}]
    told = [json.dumps(WitchesBrew(**kind).arguments(), sort_keys=True) for kind in kinds]
    assert len(set(told)) == len(kinds)


def test_randomness_belongs_to_a_setup_and_a_stream() -> None:
    def draws(seeds: tuple[int, ...], stream: int = 0) -> list[float]:
        batch = CraftBatch(torch.zeros(0), torch.zeros(0), torch.zeros(0), seeds)
        return [torch.rand((), generator=generator).item() for generator in batch.generators(stream)]

    assert draws((5, 2**63 - 1)) == [draws((5,))[0], draws((2**63 - 1,))[0]]
    assert draws((5,)) != draws((6,))
    assert draws((5,)) != draws((5,), stream=1)


def test_an_l2_radius_above_the_images_diameter_is_refused_before_crafting(craft) -> None:
    with pytest.raises(InputError, match=r"eps is 33.*at most 32.*--attack\.eps"):
        craft(BullseyePolytope(eps=33, norm="l2", steps=1))


@pytest.mark.parametrize("attack", [BullseyePolytope, ConvexPolytope, HiddenTrigger, PoisonFrogs])
def test_a_surrogate_that_gives_no_numbers_stops_crafting_at_once(craft, surrogates, attack) -> None:
    broken = copy.deepcopy(surrogates[0])
    with torch.no_grad():
        broken.body[0][0].weight.fill_(torch.nan)
    steps: list[int] = []
    with pytest.raises(InputError, match=r"setup 0 has no finite objective.*--attack.learning_rate"):
        craft(attack(eps="16/255", steps=50), models=[broken], progress=lambda objective: steps.append(1))
    assert not steps
