from collections.abc import Callable

import pytest

from poison_and_defend.attacks.base import Attack
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.setups import Setup, draw_setups
from poison_and_defend.attacks.threat.surrogate import Surrogate
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.build import build_network

Craft = Callable[..., list[PoisonSet]]


@pytest.fixture(scope="session")
def digits() -> DigitsDataModule:
    return DigitsDataModule()


@pytest.fixture(scope="session")
def setups(digits: DigitsDataModule) -> list[Setup]:
    train, test = digits.split("train").labels.numpy(), digits.split("test").labels.numpy()
    return draw_setups(train, test, num_setups=3, num_poisons=4, seed=7)


@pytest.fixture(scope="session")
def surrogates() -> list[Classifier]:
    return [build_network("convnet", in_channels=1, num_classes=10, seed=seed).eval() for seed in (1, 2)]


@pytest.fixture(scope="session")
def craft(digits: DigitsDataModule, setups: list[Setup], surrogates: list[Classifier]) -> Craft:
    def run(attack: Attack, chosen: list[Setup] = setups, models: list[Surrogate] = surrogates[:1], **rest) -> list[PoisonSet]:
        train, test = digits.split("train"), digits.split("test")
        return attack.craft(chosen, train.images, train.labels, test.images, models, **rest)

    return run
