import copy

import pytest
import torch
from torch.nn import functional

from poison_and_defend.lightning_modules.classifier import fresh_head
from poison_and_defend.lightning_modules.ensemble import EnsembleModule
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.lightning_modules.member_threads import pool_first
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.recipe import Recipe
from tests.lightning_modules.fitting import Few, fit


def trained(name: str, fast: bool, threads: int = 2, precision: str = "float32") -> EnsembleModule:
    recipe = Recipe(epochs=3, batch_size=20, learning_rate=0.02, max_shift=0.1, precision=precision)
    split = Few().split("train")
    rows = torch.stack([torch.arange(48).roll(i)[:40] for i in range(3)])

    def build(seed):
        return build_network(name, in_channels=1, num_classes=10, seed=seed)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        module = EnsembleModule(build, [3, 5, 11], EnsembleData(split.images, split.labels, rows), recipe, fast=fast)
        return fit(module, recipe.epochs)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["convnet", "patchnet"])
def test_members_on_threads_learn_what_members_in_turn_learn(name):
    fast, slow = trained(name, True), trained(name, False)
    start = build_network(name, in_channels=1, num_classes=10, seed=5).state_dict()
    for name, value in slow.member_state(1).items():
        moved = (value.float() - start[name].float()).abs().max().item()
        torch.testing.assert_close(fast.member_state(1)[name], value, rtol=1e-3, atol=2e-4 * moved + 1e-6)
    assert max((slow.member_state(1)[n].float() - v.float()).abs().max().item() for n, v in start.items()) > 1e-2
    images = Few().split("test").images
    assert (fast.member_predictions(images) == slow.member_predictions(images)).float().mean() > 0.95


@pytest.mark.parametrize("fast", [True, False])
def test_half_precision_rounds_what_single_precision_learns_and_tests_are_not_in_it(fast):
    half, single = trained("patchnet", fast, precision="bfloat16"), trained("patchnet", fast)
    start = build_network("patchnet", in_channels=1, num_classes=10, seed=5).state_dict()
    moved = torch.cat([(v - start[n]).flatten() for n, v in single.member_state(1).items()])
    apart = torch.cat([(half.member_state(1)[n] - v).flatten() for n, v in single.member_state(1).items()])
    # Eight bits of mantissa: another path, that goes the same way.
    assert 1e-3 < apart.norm() / moved.norm() < 0.1
    images = Few().split("test").images.float() / 255
    network = build_network("patchnet", in_channels=1, num_classes=10).eval()
    network.load_state_dict(half.member_state(1))
    with torch.no_grad():
        expected = network(images)
    torch.testing.assert_close(half.member_logits(images)[1], expected, rtol=1e-4, atol=1e-5)


def test_running_statistics_are_each_members_own():
    """One batch, before batch normalization has amplified the other layout's rounding."""
    split = Few().split("train")
    seeds, rows = [3, 5], torch.stack([torch.arange(40), torch.arange(8, 48)])

    def build(seed):
        return build_network("resnet18_slim", in_channels=1, num_classes=10, seed=seed)

    module = EnsembleModule(build, seeds, EnsembleData(split.images, split.labels, rows), Recipe(epochs=1), fast=True)
    fit(module, 1)
    for member, seed in enumerate(seeds):
        single = build(seed).train()
        single(split.images[rows[member]].float() / 255)
        own = module.member_state(member)
        for name in ("body.0.1.running_mean", "body.0.1.running_var", "body.0.1.num_batches_tracked"):
            torch.testing.assert_close(own[name], single.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_pooling_before_the_relu_gives_the_same_numbers_and_gradients():
    network = build_network("convnet", in_channels=1, num_classes=10, seed=1)
    swapped = pool_first(copy.deepcopy(network))
    assert [type(m).__name__ for m in swapped.body[0]] == ["Conv2d", "GroupNorm", "MaxPool2d", "ReLU"]
    images = Few().split("train").images.float() / 255
    for one in (network, swapped):
        functional.cross_entropy(one(images), Few().split("train").labels).backward()
    assert torch.equal(network(images), swapped(images))
    for own, other in zip(network.parameters(), swapped.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-5, atol=1e-7)


def test_heads_in_closed_form_learn_what_autograd_learns():
    split, recipe = Few().split("train"), Recipe(epochs=5, batch_size=20, learning_rate=0.1)
    data = EnsembleData(split.images.flatten(1).float() / 255, split.labels, torch.arange(48).expand(3, -1))

    def states(fast):
        module = EnsembleModule(lambda seed: fresh_head(1024, 10, seed), [3, 5, 11], data, recipe, fast=fast)
        fit(module, recipe.epochs)
        return module.member_state(1)

    own, expected, start = states(True), states(False), fresh_head(1024, 10, 5).state_dict()
    for name, value in expected.items():
        assert (value - start[name]).abs().max() > 1e-2
        torch.testing.assert_close(own[name], value, rtol=1e-4, atol=1e-5)


def test_the_number_of_threads_does_not_matter():
    one, two = trained("convnet", True, threads=1), trained("convnet", True, threads=2)
    for name, value in one.member_state(2).items():
        assert torch.equal(two.member_state(2)[name], value), name
