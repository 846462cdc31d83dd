"""Members of an ensemble are the networks that they would be alone, whatever the network."""

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from poison_and_defend.lightning_modules.classifier import ClassifierModule
from poison_and_defend.lightning_modules.ensemble import EnsembleModule
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.lightning_modules.stacking import can_be_stacked
from tests.lightning_modules.fitting import Few, fit
from tests.lightning_modules.networks.zoo import HERE, NAMES, network

RECIPE = Recipe(epochs=2, batch_size=16, learning_rate=0.02, weight_decay=0.0, max_shift=0.06)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name == "lite0" else ()) for name in NAMES])
def test_a_member_equals_a_single_classifier(name, tmp_path) -> None:
    spec, split = network(name, tmp_path), Few().split("train")

    def build(seed: int):
        return build_network(spec, in_channels=1, num_classes=10, seed=seed)

    data = EnsembleData(split.images, split.labels, torch.arange(len(split)).expand(2, -1))
    ensemble = fit(EnsembleModule(build, [4, 5], data, RECIPE, members_per_block=2), RECIPE.epochs)
    single = ClassifierModule(spec, recipe=RECIPE, seed=5)
    fit(single, RECIPE.epochs, Few(batch_size=16, seed=5))
    state, start = ensemble.member_state(1), build(5).state_dict()
    assert set(state) == set(start)
    for key, value in single.net.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=1e-3, atol=1e-4, msg=lambda m, key=key: f"{key}: {m}")
    assert not torch.allclose(state["head.weight"], start["head.weight"], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_batched_members_are_the_loop_over_them(name, tmp_path) -> None:
    spec = network(name, tmp_path)
    members = [build_network(spec, in_channels=1, num_classes=10, seed=seed).double().train() for seed in (1, 2)]
    parameters, buffers = stack_module_state(members)
    # In double precision: batch normalization over single pixels magnifies rounding.
    inputs = torch.rand(2, 3, 1, 32, 32).double()
    before = {key: value.clone() for key, value in buffers.items()}
    assert can_be_stacked(members[0], parameters, buffers, inputs)
    assert all(torch.equal(value, buffers[key]) for key, value in before.items())
    stacked = vmap(lambda p, b, x: functional_call(members[0], (p, b), (x,)))(parameters, buffers, inputs)
    torch.testing.assert_close(stacked, torch.stack([m(x) for m, x in zip(members, inputs, strict=True)]))


def test_networks_that_cannot_be_batched_are_looped_over_and_it_is_said(caplog) -> None:
    spec = Network(f"{HERE}.Refused", {"kind": "in place"})
    members = [build_network(spec, in_channels=1, num_classes=10, seed=seed) for seed in (1, 2)]
    assert not can_be_stacked(members[0], *stack_module_state(members), torch.rand(2, 3, 1, 32, 32))
    assert "trained one after another" in caplog.text and "\n" not in caplog.records[0].getMessage()
