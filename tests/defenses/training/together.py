"""What tests of every training recipe ask: that members do not see each other, and that something is learned."""

import torch

from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.defenses import Step, Training
from poison_and_defend.lightning_modules.classifier import ClassifierModule, fresh_head
from poison_and_defend.lightning_modules.ensemble import EnsembleModule
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe
from tests.lightning_modules.fitting import Few, fit


def build(name: str):
    return lambda seed: build_network(name, in_channels=1, num_classes=10, seed=seed)


def trained(seeds, recipe: Recipe, defense: Training, name: str = "patchnet", heads: bool = False) -> EnsembleModule:
    """An ensemble on the same 48 digits; of heads behind a frozen network, or on its features if the recipe leaves images."""
    split, make, pool, extractor = Few().split("train"), build(name), Few().split("train").images, None
    if heads:
        network = build(name)(1).eval().requires_grad_(False)
        extractor = network if defense.changes_images else None
        pool = pool if extractor else network.features(pool.float() / 255)
        make = lambda seed: fresh_head(64, 10, seed)  # noqa: E731
    data = EnsembleData(pool, split.labels, torch.arange(48).expand(len(seeds), -1))
    module = EnsembleModule(make, seeds, data, recipe, members_per_block=2, defense=defense, extractor=extractor)
    return fit(module, recipe.epochs)


def assert_same(state, other, before) -> None:
    """Equal up to rounding, and far from where training began."""
    moved = max((before[name] - value).abs().max().item() for name, value in other.items())
    assert moved > 1e-2
    for name, value in other.items():
        torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-4 * moved + 1e-6, msg=lambda m, n=name: f"{n}: {m}")


def assert_equals_single(recipe: Recipe, defense: Training, name: str = "patchnet") -> None:
    """A member of three, in a block of two, and a single classifier of its seed."""
    ensemble = trained([3, 5, 11], recipe, defense, name)
    single = fit(
        ClassifierModule(Network(name), recipe=recipe, defense=defense, seed=5),
        recipe.epochs,
        Few(batch_size=recipe.batch_size, seed=5),
    )
    assert_same(ensemble.member_state(1), single.net.state_dict(), build(name)(5).state_dict())


def assert_equals_alone(recipe: Recipe, defense: Training, name: str = "patchnet", heads: bool = False) -> None:
    """A member of three, in a block of two, and an ensemble of it alone."""
    first, second = trained([3, 5, 11], recipe, defense, name, heads), trained([5], recipe, defense, name, heads)
    before = fresh_head(64, 10, 5) if heads else build(name)(5)
    assert_same(first.member_state(1), second.member_state(0), before.state_dict())


def accuracy(defense: Training, epochs: int = 10) -> float:
    """On clean digits, of a small network that is trained from scratch by the recipe."""
    train, test = (DigitsDataModule().split(name) for name in ("train", "test"))
    data = EnsembleData(train.images, train.labels, torch.arange(len(train.labels))[None])
    recipe = Recipe(epochs=epochs, optimizer="adam", learning_rate=0.003)
    module = fit(EnsembleModule(build("patchnet"), [1], data, recipe, defense=defense), epochs)
    return (module.member_predictions(test.images)[0] == test.labels).float().mean().item()


def random_step(members: int = 2, count: int = 6, side: int = 8, number: int = 4, epoch: int = 0, logits=None) -> Step:
    """Random colour images of five classes."""
    drawn = torch.Generator().manual_seed(number)
    images = torch.rand(members, count, 3, side, side, generator=drawn)
    labels = torch.randint(5, (members, count), generator=drawn)
    rows = torch.arange(count).expand(members, -1)
    return Step(images, labels, rows, tuple(range(members)), number, 5, logits or (lambda x: x), epoch=epoch)
