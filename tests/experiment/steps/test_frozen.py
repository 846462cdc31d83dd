"""Networks that are taken as they come: nothing is trained but heads, and attackers and victims share the fast form."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from poison_and_defend.attacks import LabelConsistent, WitchesBrew
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.defenses import Adversarial
from poison_and_defend.experiment.run import run
from poison_and_defend.experiment.steps.surrogates import attacker_models, extractor
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.frozen import fastest_precision
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.training.launch import Launch


@pytest.fixture
def given(tmp_path: Path) -> Network:
    """A small network with weights that no seed of an experiment has."""
    model = build_network("convnet", in_channels=1, num_classes=10, seed=41)
    save_file(model.state_dict(), tmp_path / "given.safetensors")
    return Network("convnet", weights=str(tmp_path / "given.safetensors"))


def test_attackers_and_victims_have_the_weights_that_were_given_and_none_is_trained(plan, given) -> None:
    own = plan(network=given, frozen=True)
    (surrogate,), victim = attacker_models(own, Ranks()), extractor(own, "convnet", Ranks())
    images = own.data.split("test").images[:8].float() / 255
    model = build_network(given, in_channels=1, num_classes=10, mean=own.data.mean, std=own.data.std).eval()
    assert victim.precision == fastest_precision(torch.device("cpu"))
    assert surrogate.features(images).equal(victim.features(images))
    wanted = model.features(images)
    assert (victim.features(images) - wanted).norm() < 0.02 * wanted.norm()
    assert not own.models.exists() and own.networks.knowledge("convnet") == "white box"
    assert own.settings["feature_recipe"] is None and own.settings["public"] is None


def test_an_experiment_on_frozen_features_keeps_them_and_finds_them_again(plan, given) -> None:
    folder = run(plan(network=given, frozen=True), Launch(), "{}")
    kept = sorted(path.name for path in folder.with_name("features").iterdir())
    # Of the test images, of the clean rows that both arms share, and of the poisons and bases.
    assert len(kept) == 4
    run(plan(network=given, frozen=True, name="again"), Launch(), "{}")
    assert sorted(path.name for path in folder.with_name("features").iterdir()) == kept
    lines = [
        [json.loads(line) for line in (place / "results.jsonl").read_text().splitlines()]
        for place in (folder, folder.with_name("again"))
    ]
    first, second = ([line["predicted"] for line in one] for one in lines)
    assert first == second


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"network": Network("convnet")},
            r"convnet has no weights to be frozen with.*efficientnet_lite0 \(--network, --network.weights\)",
        ),
        ({"surrogate_networks": ["patchnet"]}, r"patchnet has no weights to be frozen with"),
        ({"scenario": "fine_tune"}, r"frozen goes with transfer learning, and the scenario is fine_tune.*--scenario"),
        ({"surrogates": 2}, r"leave --surrogates away \(--frozen\)"),
        ({"surrogate_weights": ["any"]}, r"leave --surrogate_weights away \(--frozen\)"),
        (
            {"attack": WitchesBrew(), "outside_threat_model": True},
            r"witches_brew needs surrogates whose heads are trained, and frozen ones have none",
        ),
    ],
)
def test_what_frozen_networks_cannot_do_is_refused_at_once(plan, given, changes, said) -> None:
    with pytest.raises(InputError, match=said):
        plan(**{"network": given, "frozen": True} | changes)


def test_an_attack_with_robust_surrogates_of_its_own_trains_these_on_public_images(plan, given) -> None:
    own = plan(
        network=given,
        frozen=True,
        attack=LabelConsistent(),
        robust_recipe=Recipe(epochs=1),
        robust_training=Adversarial(0.1, steps=1),
    )
    (surrogate,), victim = attacker_models(own, Ranks()), extractor(own, "convnet", Ranks())
    images = own.data.split("test").images[:8].float() / 255
    assert len(list(own.models.iterdir())) == 1
    assert (surrogate.features(images) - victim.features(images)).norm() > 0.1 * victim.features(images).norm()


def test_robust_surrogates_of_another_architecture_need_no_weights(plan, given) -> None:
    own = plan(
        network=given,
        frozen=True,
        attack=LabelConsistent(),
        surrogate_networks=["patchnet"],
        robust_recipe=Recipe(epochs=1),
        robust_training=Adversarial(0.1, steps=1),
    )
    (surrogate,) = attacker_models(own, Ranks())
    built = [
        {name: value.shape for name, value in build_network(build, in_channels=1, num_classes=10).state_dict().items()}
        for build in ("patchnet", "convnet")
    ]
    assert {name: value.shape for name, value in surrogate.state_dict().items()} == built[0] != built[1]
    assert own.networks.knowledge("convnet") == "black box"
