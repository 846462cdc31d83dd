import json

import pytest
import torch

from attacks import Attack, BullseyePolytope, WitchesBrew
from attacks.surrogate import CraftBatch
from errors import InputError

ATTACKS: list[type[Attack]] = [BullseyePolytope, WitchesBrew]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, r"steps is 0.*--attack\.steps"),
        ({"eps": "0/255"}, r"eps is 0.*--attack\.eps"),
        ({"eps": 2}, r"eps is 2.*--attack\.eps"),
        ({"norm": "l1"}, r"'l1'.*--attack\.norm"),
        ({"learning_rate": 0.0}, r"learning_rate is 0.*--attack\.learning_rate"),
        ({"learning_rate": float("nan")}, r"learning_rate is nan.*--attack\.learning_rate"),
    ],
)
def test_arguments_out_of_range_are_refused(attack: type[Attack], arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        attack(**arguments)


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
    told = attack("4/255", "linf", steps=7, learning_rate=0.5).arguments()
    assert json.loads(json.dumps(told)) == told
    assert told | {"name": attack.name, "norm": "linf", "eps": 4 / 255, "steps": 7, "learning_rate": 0.5} == told


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
