from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from attacks import BullseyePolytope
from attacks.poison_set import PoisonSet
from datamodules import DigitsDataModule
from lightning_modules.recipe import Recipe
from stages.experiment import Experiment
from stages.launch import Launch
from stages.sanitize_alone import sanitize_alone
from stages.sanitize_data import SanitizeData
from stages.sanitize_task import SanitizeTask
from stopping import Stopped
from storage.store import BlockStore


def blank_poisons(experiment: Experiment) -> list[PoisonSet]:
    """Poisons that nobody crafted: every dark enough value is nine levels brighter."""
    train, test = experiment.data.split("train"), experiment.data.split("test")
    sets = []
    for setup in experiment.chosen_setups:
        bases = train.images[torch.from_numpy(setup.base_indices)]
        poisons = bases + (bases < 200).to(torch.uint8) * 9
        sets.append(PoisonSet(setup, poisons, bases, test.images[setup.target_index], experiment.attack.budget))
    return sets


@pytest.fixture(scope="session")
def digits() -> DigitsDataModule:
    return DigitsDataModule()


@pytest.fixture
def experiment(digits: DigitsDataModule, tmp_path: Path):
    """A small experiment on digits, changed by keyword."""

    def build(**changes: Any) -> Experiment:
        options: dict[str, Any] = {
            "data": digits,
            "attack": BullseyePolytope("64/255", steps=2),
            "num_setups": 2,
            "num_poisons": 5,
            "defenses": ["no_attack", "none"],
            "feature_recipe": Recipe(epochs=1),
            "victim_recipe": Recipe(epochs=2, optimizer="adam", learning_rate=0.01),
            "output_dir": str(tmp_path),
            "name": "small",
            "wandb_project": None,
        }
        return Experiment(**options | changes)

    return build


@pytest.fixture
def sanitize(colour_denoiser_folder, tmp_path):
    """The command, with a seed that is known so that runs can be compared; ``noise_seed=None`` is what users get."""

    def run(root=None, out: Path | None = None, source=None, channels=None, bits=16, follow_links=False, **options) -> Path:
        data = SanitizeData(str(root) if isinstance(root, Path) else root, channels, bits, follow_links, source)
        given = {"denoiser": colour_denoiser_folder, "sigma": 0.1, "out": str(out or tmp_path / "out"), "noise_seed": 0}
        return sanitize_alone(SanitizeTask(data=data, **given | options), Launch(accelerator="cpu", devices=1))

    return run


@pytest.fixture
def stopped_after(monkeypatch):
    """Lets a run end, as a kill would, once so many blocks are done."""

    @contextmanager
    def stop(blocks: int):
        record, done = BlockStore.record, []

        def counted(self, block, records) -> None:
            if len(done) == blocks:
                raise Stopped("killed")
            done.append(block)
            record(self, block, records)

        with monkeypatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(BlockStore, "record", counted)
            yield

    return stop
