import pytest
import torch
from torch.nn import functional

from poison_and_defend.lightning_modules.classifier import ClassifierModule, augmented, fresh_head
from poison_and_defend.lightning_modules.ensemble import EnsembleModule
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.spec import OURS, Network
from poison_and_defend.lightning_modules.recipe import Recipe
from tests.lightning_modules.fitting import Few, fit


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("convnet", Recipe(epochs=2, batch_size=20, max_shift=0.1, flip=True)),
        ("resnet18_slim", Recipe(epochs=1, batch_size=24, learning_rate=0.01)),
        ("patchnet", Recipe(epochs=3, batch_size=16, optimizer="adam", learning_rate=0.01, milestones=[])),
        ("airbench_slim", Recipe(epochs=1, batch_size=24, learning_rate=0.05, precision="bfloat16")),
    ],
)
def test_a_member_equals_a_single_classifier_of_the_same_data_and_seed(name, recipe):
    seeds = [3, 5, 11]
    split = Few().split("train")
    rows = torch.arange(48).expand(3, -1)

    def build(seed):
        return build_network(name, in_channels=1, num_classes=10, seed=seed)

    ensemble = fit(
        EnsembleModule(build, seeds, EnsembleData(split.images, split.labels, rows), recipe, members_per_block=2), recipe.epochs
    )
    single = ClassifierModule(Network(name), recipe=recipe, seed=5)
    fit(single, recipe.epochs, Few(batch_size=recipe.batch_size, seed=5))
    state, before = ensemble.member_state(1), build(5).state_dict()
    moved = max((before[name].float() - value.float()).abs().max().item() for name, value in single.net.state_dict().items())
    assert moved > 1e-2
    for name, value in single.net.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-4 * moved + 1e-6, msg=lambda m, n=name: f"{n}: {m}")
    test = Few().split("test").images
    assert torch.equal(ensemble.member_predictions(test)[1], single.eval().member_predictions(test)[0])


def test_a_head_of_the_ensemble_equals_a_frozen_classifier(tmp_path):
    from safetensors.torch import save_file

    net = build_network("convnet", in_channels=1, num_classes=10, seed=1).eval()
    save_file(net.state_dict(), tmp_path / "features.safetensors")
    split, recipe = Few().split("train"), Recipe(epochs=4, batch_size=20, learning_rate=0.1)
    with torch.no_grad():
        features = net.features(split.images.float() / 255)
    data = EnsembleData(features, split.labels, torch.arange(48).expand(2, -1))
    ensemble = fit(EnsembleModule(lambda seed: fresh_head(64, 10, seed), [8, 9], data, recipe), recipe.epochs)
    single = ClassifierModule(Network("convnet"), recipe=recipe, features=str(tmp_path / "features.safetensors"), seed=9)
    fit(single, recipe.epochs, Few(batch_size=20, seed=9))
    torch.testing.assert_close(ensemble.member_state(1)["weight"], single.net.head.weight.detach(), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(net.body.parameters(), single.net.body.parameters(), strict=True))


def test_members_with_different_rows_learn_different_labels():
    pool = torch.cat([torch.zeros(8, 4), torch.ones(8, 4), torch.zeros(8, 4), torch.ones(8, 4)])
    labels = torch.tensor([0] * 8 + [1] * 8 + [1] * 8 + [0] * 8)
    data = EnsembleData(pool, labels, torch.stack([torch.arange(16), torch.arange(16, 32)]))
    recipe = Recipe(epochs=60, batch_size=16, learning_rate=0.5, weight_decay=0.0, milestones=[])
    ensemble = fit(EnsembleModule(lambda seed: fresh_head(4, 2, seed), [1, 2], data, recipe), 60)
    assert ensemble.member_predictions(torch.stack([torch.zeros(4), torch.ones(4)])).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(("frozen", "evaluated"), [(True, False), (True, True), (False, True)])
def test_frozen_statistics_are_neither_changed_nor_replaced_by_those_of_the_batch(frozen, evaluated):
    recipe, split = Recipe(epochs=3, batch_size=48, learning_rate=0.05), Few().split("train")

    def build(seed):
        model = build_network("convnet_wide", in_channels=1, num_classes=10, seed=seed)
        model.train()(torch.rand(20, 1, 32, 32, generator=torch.Generator().manual_seed(seed)))
        return model

    data = EnsembleData(split.images, split.labels, torch.arange(48).expand(2, -1))
    module = EnsembleModule(build, [3, 4], data, recipe, frozen_statistics=frozen)
    if evaluated:  # as victims are between epochs; then back to training
        module.member_predictions(split.images)
    found = fit(module, recipe.epochs).member_state(0)
    # The same by a loop; one batch is the whole set.
    model = build(3).train(not frozen)
    optimizer = recipe.build_optimizer(model.parameters())
    scheduler = recipe.build_scheduler(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        functional.cross_entropy(model(split.images.float() / 255), split.labels).backward()
        optimizer.step()
        scheduler.step()
    before = build(3).state_dict()
    moved = (found["body.0.0.weight"] - before["body.0.0.weight"]).abs().max()
    torch.testing.assert_close(
        found["body.0.0.weight"], model.state_dict()["body.0.0.weight"], rtol=0, atol=0.02 * moved.item()
    )
    assert torch.equal(found["body.0.1.running_mean"], before["body.0.1.running_mean"]) == frozen


def test_random_views_do_not_depend_on_the_other_members():
    images = torch.rand(2, 6, 1, 16, 16)
    recipe = Recipe(max_shift=0.2, flip=True)
    together = augmented(images.flatten(0, 1), recipe, [4, 9], step=3).unflatten(0, (2, 6))
    assert torch.equal(together[1], augmented(images[1], recipe, [9], step=3))
    assert not torch.equal(together[1], augmented(images[1], recipe, [9], step=4))


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("channels", [1, 3])
def test_networks_give_the_features_they_promise(name, channels):
    net = build_network(name, in_channels=channels, num_classes=7, seed=0).eval()
    images = torch.rand(2, channels, 32, 32)
    assert net.features(images).shape == (2, net.num_features)
    assert torch.equal(net(images), net.head(net.features(images))) and net(images).shape == (2, 7)


def test_weights_depend_on_the_seed_and_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    one, two, three = (build_network("convnet", in_channels=1, num_classes=10, seed=s) for s in (1, 1, 2))
    assert torch.equal(one.head.weight, two.head.weight) and not torch.equal(one.head.weight, three.head.weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_resnet18_has_the_small_image_stem():
    net = build_network("resnet18", in_channels=3, num_classes=10, seed=0)
    stem = net.body[0][0]
    assert stem.stride == (1, 1) and stem.kernel_size == (3, 3)
    # 11,173,962 is the parameter count of the CIFAR ResNet-18 of the literature.
    assert sum(p.numel() for p in net.parameters()) == 11_173_962
