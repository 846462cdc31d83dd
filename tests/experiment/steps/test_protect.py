import os
from pathlib import Path

import pytest
import torch

from poison_and_defend.attacks import PoisonFrogs
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.defenses.switch import Defense
from poison_and_defend.experiment.steps.protect import sanitize_all
from poison_and_defend.sanitizing.engine import sanitize
from tests.small_experiments import blank_poisons

DEFENDED = {"defenses": ["no_attack", "none", "noise_only", "jpeg"]}


def test_clean_rows_are_sanitized_once_for_all_attacks_on_them(plan, monkeypatch: pytest.MonkeyPatch) -> None:
    one = plan(**DEFENDED)
    two = plan(name="other", attack=PoisonFrogs(steps=2), num_setups=1, num_poisons=3, **DEFENDED)
    first = sanitize_all(one, blank_poisons(one), Ranks())
    assert sorted(path.name.partition("-")[0] for path in one.stores.iterdir()) == ["jpeg", "noise_only"]
    seen: list[int] = []
    original = Defense.__call__

    def counted(self: Defense, images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows.unique()))
        return original(self, images, rows)

    monkeypatch.setattr(Defense, "__call__", counted)
    second = sanitize_all(two, blank_poisons(two), Ranks())
    assert sum(seen) == 2 * 3  # the poisons of the second attack under both defences, and nothing else
    assert len(list(one.stores.iterdir())) == 2
    for name in ("noise_only", "jpeg"):
        assert torch.equal(first[name].clean, second[name].clean)
        assert not torch.equal(first[name].clean, first["none"].clean)
        assert len(first[name].poisons) == 10 and len(second[name].poisons) == 3


def test_other_noise_is_another_store(plan) -> None:
    for sigma in (0.25, 0.5):
        own = plan(name=f"sigma_{sigma}", sigma=sigma, defenses=["none", "noise_only"])
        sanitize_all(own, blank_poisons(own), Ranks())
    assert len(list(own.stores.iterdir())) == 2


def test_a_run_that_finds_anothers_store_where_it_wanted_to_put_its_own_uses_it(tmp_path, monkeypatch) -> None:
    images, defense = torch.arange(4 * 64, dtype=torch.uint8).view(4, 1, 8, 8), Defense("noise_only", sigma=0.2)
    whole = sanitize(images, torch.arange(4), defense, tmp_path / "whole", Ranks(), batch_size=2)

    def late(source: Path, target: Path) -> None:
        monkeypatch.undo()
        sanitize(images, torch.arange(4), defense, target.parent, Ranks(), batch_size=2)
        os.rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    found = sanitize(images, torch.arange(4), defense, tmp_path / "store", Ranks(), batch_size=2)
    assert os.rename is not late and torch.equal(found, whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "whole"]
