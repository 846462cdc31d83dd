"""Any network through every scenario that it allows: extractors, surrogates, crafting and victims."""

import pytest

from poison_and_defend.attacks import BullseyePolytope, WitchesBrew
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.experiment.steps.craft import craft_poisons
from poison_and_defend.experiment.steps.protect import sanitize_all
from poison_and_defend.experiment.steps.surrogates import attacker_models
from poison_and_defend.experiment.steps.victims import train_victims
from poison_and_defend.experiment.task.results import make_results
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe
from tests.lightning_modules.networks.zoo import HERE, NAMES, network

SCENARIOS = ("transfer", "fine_tune", "from_scratch")
# Every network once, every scenario with several, and one network through all.
CASES = [(name, scenario) for i, name in enumerate(NAMES) for j, scenario in enumerate(SCENARIOS) if i == 0 or i % 3 == j]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scenario"), CASES)
def test_every_network_goes_through_a_scenario(plan, tmp_path, name, scenario) -> None:
    scratch = scenario == "from_scratch"
    attack = (
        WitchesBrew("64/255", steps=2, max_shift=0.0, flip=False)
        if scratch
        else BullseyePolytope("64/255", steps=2, end_to_end=scenario == "fine_tune")
    )
    own = plan(
        networks={"mine": network(name, tmp_path)},
        surrogate_networks=["mine"],
        victims=["mine"],
        attack=attack,
        scenario=scenario,
        feature_recipe=Recipe(epochs=1, learning_rate=0.01),
        victim_recipe=Recipe(epochs=1, learning_rate=0.01),
        num_setups=1,
    )
    own.folder.mkdir(parents=True)
    poisons = craft_poisons(own, attacker_models(own, Ranks()), Ranks())
    assert (poisons[0].images != poisons[0].bases).any()
    found = []
    arms, sanitized = list(own.arms.values()), sanitize_all(own, poisons, Ranks())
    train_victims(own, "mine", poisons, arms, sanitized, Ranks(), keep=found.append)
    control, attacked = (make_results(own, "mine", one.arm, poisons, one.scores, [], one.seconds)[0] for one in found)
    assert (control.defense, attacked.defense, control.victim) == ("no_attack", "none", "mine")
    assert attacked.knowledge == ("grey box" if scratch else "white box")
    assert {path.stem for path in (own.folder / "figures").iterdir()} == {"features_no_attack", "features_none"}


def test_settings_of_plain_names_say_no_more_than_they_did_and_others_say_all(plan, tmp_path) -> None:
    plain = plan(victims=["convnet", "patchnet"])
    assert plain.settings["surrogate_backbones"] == ["convnet"] and plain.settings["victims"] == ["convnet", "patchnet"]
    assert not {"surrogate_networks", "victim_networks"} & set(plain.settings)
    named = {"mine": Network("convnet", size=16)}
    victim = plan(networks=named, victims=["mine"])
    assert victim.settings["victim_networks"] == {"mine": {"build": "convnet", "size": 16}}
    assert victim.crafted_with == plain.crafted_with and victim.networks.knowledge("mine") == "black box"
    attacker = plan(networks=named, surrogate_networks=["mine"])
    assert attacker.crafted_with != plain.crafted_with
    # The same network under two names is known to the attacker.
    assert plan(networks=named | {"two": named["mine"]}, surrogate_networks=["mine"], victims=["two"]).networks.knowledge(
        "two"
    ) == ("white box")


@pytest.mark.parametrize(
    ("match", "changes"),
    [
        (r"'timm:resnet81' is no network of timm.*\(--network\)", {"network": Network("timm:resnet81")}),
        (r"resnet19.*\(--victims\)", {"victims": ["resnet19"]}),
        (r"cannot be imported.*\(--networks.mine\)", {"networks": {"mine": Network("no.Net")}, "victims": ["mine"]}),
        (r"networks names 'convnet'.*\(--networks\)", {"networks": {"convnet": Network("vgg11")}}),
        (
            r"cannot read images of 32 x 32.*\(--surrogate_networks.size\)",
            {"surrogate_networks": ["timm:vit_tiny_patch16_224"]},
        ),
        (r"no blocks of .*Own are named.*--dropout", {"network": Network(f"{HERE}.Own"), "dropout": 0.1}),
        (
            r"witches_brew differentiates .* twice, and .*Hard cannot be: its Hardsigmoid \(body.act\).*\(--network\)",
            {"network": Network(f"{HERE}.Hard"), "attack": WitchesBrew(max_shift=0.0, flip=False), "scenario": "from_scratch"},
        ),
    ],
)
def test_networks_that_cannot_work_are_refused_before_anything_is_trained(plan, tmp_path, match, changes) -> None:
    with pytest.raises(InputError, match=match):
        plan(**changes)
    assert not any(tmp_path.iterdir())


def test_a_network_without_second_derivatives_may_be_a_victim(plan) -> None:
    plan(attack=WitchesBrew(max_shift=0.0, flip=False), scenario="from_scratch", victims=[f"{HERE}.Hard"])
