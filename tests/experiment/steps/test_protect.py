import os
from pathlib import Path

import pytest
import torch

from poison_and_defend.attacks import PoisonFrogs
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.defenses import Chain, Diffusion, Jpeg, Mixup, NoiseOnly
from poison_and_defend.experiment.steps.protect import sanitize_all
from poison_and_defend.sanitizing.engine import sanitize
from tests.countermeasures import arms, rewriter
from tests.small_experiments import blank_poisons

DEFENDED = {"arms": arms(["no_attack", "none", "noise_only", "jpeg"])}


def test_clean_rows_are_sanitized_once_for_all_attacks_on_them(plan, monkeypatch: pytest.MonkeyPatch) -> None:
    one = plan(**DEFENDED)
    two = plan(name="other", attack=PoisonFrogs(steps=2), num_setups=1, num_poisons=3, **DEFENDED)
    first = sanitize_all(one, blank_poisons(one), Ranks())
    assert sorted(path.name.partition("-")[0] for path in one.stores.iterdir()) == ["jpeg", "noise_only"]
    seen: list[int] = []
    for kind in (NoiseOnly, Jpeg):
        original = kind.__call__

        def counted(self, images: torch.Tensor, keys: torch.Tensor, draws=None, original=original) -> torch.Tensor:
            seen.append(len(keys.unique()))
            return original(self, images, keys, draws)

        monkeypatch.setattr(kind, "__call__", counted)
    second = sanitize_all(two, blank_poisons(two), Ranks())
    assert sum(seen) == 2 * 3  # the poisons of the second attack under both defences, and nothing else
    assert len(list(one.stores.iterdir())) == 2
    for name in ("noise_only", "jpeg"):
        assert torch.equal(first[name].clean, second[name].clean)
        assert not torch.equal(first[name].clean, first["none"].clean)
        assert len(first[name].poisons) == 10 and len(second[name].poisons) == 3


def test_arms_that_go_on_with_the_same_rewriters_share_what_these_make(plan) -> None:
    chains = {
        "jpeg": Jpeg(),
        "jpeg+mixup": Chain([Jpeg(), Mixup()]),
        "strong": Jpeg(5),
        "control": Chain([Jpeg()], attacked=False),
    }
    own = plan(arms=chains)
    sets = blank_poisons(own)
    found = sanitize_all(own, sets, Ranks())
    assert found["jpeg"] is found["jpeg+mixup"] and found["strong"] is not found["jpeg"]
    assert sorted(path.name.partition("-")[0] for path in (own.folder / "stores").iterdir()) == ["jpeg", "strong"]
    assert torch.equal(found["control"].clean, found["jpeg"].clean)
    rows = torch.searchsorted(torch.from_numpy(own.rows), torch.from_numpy(sets[0].setup.base_indices))
    assert torch.equal(found["control"].poisons[:5], found["jpeg"].clean[rows])
    # An arm of its own, later, finds them too.
    alone = sanitize_all(own, sets, Ranks(), ["jpeg+mixup"])
    assert torch.equal(alone["jpeg+mixup"].poisons, found["jpeg"].poisons)


def test_other_noise_is_another_store(plan) -> None:
    for sigma in (0.25, 0.5):
        own = plan(name=f"sigma_{sigma}", sigma=sigma, arms=arms(["none", "noise_only"]))
        sanitize_all(own, blank_poisons(own), Ranks())
    assert len(list(own.stores.iterdir())) == 2


def test_a_run_that_finds_anothers_store_where_it_wanted_to_put_its_own_uses_it(tmp_path, monkeypatch) -> None:
    images, defense = torch.arange(4 * 64, dtype=torch.uint8).view(4, 1, 8, 8), rewriter("noise_only", sigma=0.2)
    whole = sanitize(images, torch.arange(4), defense, tmp_path / "whole", Ranks(), batch_size=2)

    def late(source: Path, target: Path) -> None:
        monkeypatch.undo()
        sanitize(images, torch.arange(4), defense, target.parent, Ranks(), batch_size=2)
        os.rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    found = sanitize(images, torch.arange(4), defense, tmp_path / "store", Ranks(), batch_size=2)
    assert os.rename is not late and torch.equal(found, whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "whole"]


def test_several_draws_are_the_single_draws_one_after_another(plan) -> None:
    own = plan(
        arms={
            "one": Diffusion(draw=0),
            "next": Diffusion(draw=1),
            "three": Diffusion(draws=3),
            "chain": Chain([Jpeg(), Diffusion(draws=2)]),
        }
    )
    found = sanitize_all(own, blank_poisons(own), Ranks())
    first, second, third = found["three"].versions
    for single, version in (("one", first), ("next", second)):
        assert version.clean.equal(found[single].clean) and version.poisons.equal(found[single].poisons)
    assert not third.clean.equal(first.clean) and not third.clean.equal(second.clean)
    assert len(found["one"].versions) == 1 and len(found["chain"].versions) == 2
    # Clean rows of a draw are kept once, whoever asks for it.
    assert len(list(own.stores.iterdir())) == 3 + 2


def test_bases_that_nobody_changed_are_the_rewritten_rows_themselves(plan, monkeypatch: pytest.MonkeyPatch) -> None:
    own = plan(arms={"control": Chain([NoiseOnly(0.1)], attacked=False)})
    sets, seen = blank_poisons(own), []
    original = NoiseOnly.__call__

    def counted(self, images: torch.Tensor, keys: torch.Tensor, draws=None) -> torch.Tensor:
        seen.append(len(keys.unique()))
        return original(self, images, keys, draws)

    monkeypatch.setattr(NoiseOnly, "__call__", counted)
    found = sanitize_all(own, sets, Ranks())["control"]
    assert sum(seen) == len(own.rows) == len(found.clean)
    monkeypatch.undo()
    keys = torch.cat([torch.from_numpy(one.setup.base_indices) for one in sets])
    bases = torch.cat([one.bases for one in sets])
    (rewritten,) = own.arms["control"].rewriters
    assert torch.equal(found.poisons, rewritten(bases, keys)) and not torch.equal(found.poisons, bases)
