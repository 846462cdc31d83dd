"""What a kind of file is here, and what several of them are made of."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from poison_and_defend.attacks.threat.budget import Budget
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.setups import draw_setups
from poison_and_defend.attacks.threat.trigger import PatchTrigger
from poison_and_defend.datamodules import (
    DigitsDataModule,
)
from poison_and_defend.training.launch import Launch

ONE = Launch(accelerator="cpu", devices=1)

Read = Callable[[Path], object]


@dataclass(frozen=True)
class Artefact:
    """A file that is changed, and what reads it.

    Attributes:
        kind: What it is part of; also the folder that is copied.
        file: Its path below that folder.
        read: The project's own reader, given the copy of the folder.
        reseal: Makes checksums fit again that lie elsewhere, so that what is behind them is reached too.
        weight: How often it is chosen.
    """

    kind: str
    file: str
    read: Read
    reseal: Read | None = None
    weight: int = 3

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.kind}/{self.file}"


@cache
def digits() -> DigitsDataModule:
    """Read once a process."""
    return DigitsDataModule()


def small_poisons(trigger: bool) -> PoisonSet:
    train, test = digits().split("train"), digits().split("test")
    (setup,) = draw_setups(train.labels.numpy(), test.labels.numpy(), num_setups=1, num_poisons=3, seed=0)
    bases = train.images[torch.from_numpy(setup.base_indices)]
    poisons = bases + (bases < 200).to(torch.uint8) * 9
    rest: dict[str, Any] = {}
    if trigger:
        rest = {"trigger": PatchTrigger(size=4).build((1, 32, 32)), "goal": "source"}
    return PoisonSet(setup, poisons, bases, test.images[setup.target_index], Budget("linf", 16 / 255), {"name": "x"}, **rest)


def suppress_input() -> Any:
    """What follows may well be refused."""
    from poison_and_defend.core.errors import InputError

    return suppress(InputError)
