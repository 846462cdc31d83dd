import copy
import json
from dataclasses import replace

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
from poison_and_defend.attacks.base import source_rows
from poison_and_defend.attacks.threat.surrogate import CraftBatch
from poison_and_defend.core.errors import InputError
from tests.attacks.by_hand import SETUPS, TwoLayers, small_batch

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


def test_the_one_setup_without_a_number_is_named(setups) -> None:
    values = torch.tensor([1.0, torch.nan, 2.0])
    with pytest.raises(InputError, match=rf"setup {setups[1].index} has no finite objective"):
        BullseyePolytope(eps="16/255", steps=1)._check_finite(values, [*setups, setups[0]][:3])


FEATURES, LOGITS, SCRATCH = {"transfer", "fine_tune"}, {"transfer", "fine_tune", "from_scratch"}, {"from_scratch"}


@pytest.mark.parametrize(
    ("attack", "scenarios", "goal", "several_targets", "uses_logits", "differentiates_twice", "robust_surrogates"),
    [
        (BullseyePolytope, FEATURES, "targets", True, False, False, False),
        (ConvexPolytope, FEATURES, "targets", False, False, False, False),
        (PoisonFrogs, FEATURES, "targets", False, False, False, False),
        (HiddenTrigger, FEATURES, "source", False, False, False, False),
        (LabelConsistent, LOGITS, "others", False, True, False, True),
        (WitchesBrew, {"from_scratch", "fine_tune"}, "targets", True, True, True, False),
        (SleeperAgent, SCRATCH, "source", False, True, True, False),
    ],
)
def test_threat_models_are_the_papers(
    attack, scenarios, goal, several_targets, uses_logits, differentiates_twice, robust_surrogates
) -> None:
    assert (attack.scenarios, attack.goal, attack.several_targets) == (scenarios, goal, several_targets)
    assert (attack.uses_logits, attack.differentiates_twice) == (uses_logits, differentiates_twice)
    assert attack.robust_surrogates == robust_surrogates
    # A trigger is what makes a backdoor, and is shown on poisons by one attack alone.
    assert (attack().trigger is None) == (goal == "targets")
    assert attack().visible_trigger == (attack is LabelConsistent)


@pytest.mark.parametrize("attack", ATTACKS)
def test_logits_are_looked_at_by_those_attacks_that_say_so(attack: type[Attack]) -> None:
    class Headless(TwoLayers):
        def forward(self, images):
            raise AssertionError("looks at logits")

    plain = {"selection": "given", "retrains": 0} if attack is SleeperAgent else {}
    own, model = attack(steps=1, **plain), Headless(1).eval()
    if attack.uses_logits:
        with pytest.raises(AssertionError, match="looks at logits"):
            own.perturb(small_batch(), [model], lambda value: None)
    else:
        own.perturb(small_batch(), [model], lambda value: None)


def test_source_images_are_drawn_for_attacks_that_ask_for_them_alone(digits, setups) -> None:
    train, test = digits.split("train"), digits.split("test")
    for attack, count in ((BullseyePolytope(), None), (LabelConsistent(), None), (HiddenTrigger(), 4), (SleeperAgent(), 5000)):
        trigger = attack.build_trigger((1, 32, 32))
        batch = attack._batch(setups, train.images, train.labels, test.images, trigger, "cpu")
        assert (None if batch.sources is None else batch.sources.shape[1]) == count


def test_sources_are_rows_of_the_target_class_each_once_before_any_comes_again(setups) -> None:
    labels = torch.tensor([3, 5, 3, 3, 5, 3])
    for seed in (0, 2**63 - 1, 2**63 - 8):
        setup = replace(setups[0], target_label=3, seed=seed)
        assert source_rows(setup, labels, 4).sort().values.tolist() == [0, 2, 3, 5]
        twice = source_rows(setup, labels, 6)
        assert twice[:2].tolist() == twice[4:].tolist() and len(twice[:4].unique()) == 4
    many = torch.full((60,), 3)
    # 7 further on, and around the end of 63 bits.
    for seed, own in ((5, 12), (2**63 - 1, 6)):
        order = torch.randperm(60, generator=torch.Generator().manual_seed(own))
        assert torch.equal(source_rows(replace(setups[0], target_label=3, seed=seed), many, 60), order)
    orders = {tuple(source_rows(replace(setups[0], target_label=3, seed=seed), many, 60).tolist()) for seed in range(200)}
    assert len(orders) == 200
    with pytest.raises(InputError, match=r"setup 0: its source class 4 has no training image"):
        source_rows(replace(setups[0], target_label=4), labels, 1)


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_told_and_returned_holds_on_to_no_graph_and_the_batch_stays_as_it_was(attack: type[Attack]) -> None:
    plain = {SleeperAgent: {"selection": "given", "retrains": 0}, HiddenTrigger: {"tolerance": 0.0}}.get(attack, {})
    batch, told = small_batch(), []
    before = batch.bases.clone()
    poisons, objective = attack(steps=2, **plain).perturb(batch, [TwoLayers(1).eval()], told.append)
    assert told and all(value.shape == (SETUPS,) for value in told)
    assert not any(value.requires_grad for value in (*told, poisons, objective, batch.bases))
    assert torch.equal(batch.bases, before) and not torch.equal(poisons, before)


def test_an_attack_that_stops_early_hands_over_no_graph_either() -> None:
    poisons, _ = HiddenTrigger(steps=5, tolerance=1e9).perturb(small_batch(), [TwoLayers(1).eval()], lambda value: None)
    assert not poisons.requires_grad and torch.equal(poisons, small_batch().bases)


def test_images_are_handed_to_attacks_in_units_of_one(digits, setups) -> None:
    train, test = digits.split("train"), digits.split("test")
    attack = HiddenTrigger()
    trigger = attack.build_trigger((1, 32, 32))
    batch = attack._batch(setups, train.images, train.labels, test.images, trigger, "cpu")
    for setup, bases, labels, targets, sources in zip(
        setups, batch.bases, batch.base_labels, batch.targets, batch.sources, strict=True
    ):
        rows = source_rows(setup, train.labels, 4)
        stamped = trigger.stamp(train.images[rows], rows)
        wanted = train.images[setup.base_indices], test.images[list(setup.target_indices)], stamped
        for found, images in zip((bases, targets, sources), wanted, strict=True):
            torch.testing.assert_close(found * 255, images.float(), rtol=0, atol=1e-4)
        assert labels.tolist() == [setup.adversarial_label] * 4
