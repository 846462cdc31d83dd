"""Poisons of attackers who know the defence, from an experiment's options to its files."""

import json

import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.experiment.steps.craft import craft_poisons
from poison_and_defend.experiment.steps.surrogates import attacker_models
from tests.countermeasures import arms
from tests.tiny_denoisers import folders

__all__ = ["folders"]


def crafted(plan) -> torch.Tensor:
    plan.folder.mkdir(parents=True, exist_ok=True)
    return torch.stack([poisons.images for poisons in craft_poisons(plan, attacker_models(plan, Ranks(), None), Ranks())])


@pytest.mark.parametrize("knowledge", ["defense", "surrogate_defense", "seed"])
def test_poisons_are_made_through_the_known_defence_kept_and_refused_elsewhere(plan, folders, knowledge) -> None:
    theirs, own = map(str, folders)
    told = {"knowledge": knowledge} | ({"known_denoiser": own} if knowledge == "surrogate_defense" else {})
    common = {"arms": arms(["none", "diffusion"]), "denoiser": theirs, "known_draws": 2}
    plain, adaptive = plan(**common, name="plain"), plan(**common, **told, name="adaptive")
    found = crafted(adaptive)
    assert not torch.equal(found, crafted(plain))
    for path in (adaptive.folder / "poisons").glob("*.json"):
        told = json.loads(path.read_text())
        # Two steps: a quarter and half are the first, the end the second.
        assert list(told["objective_held_out"]) == ["1", "2"]
        assert told["objective_held_out"]["2"] == pytest.approx(told["objective"], rel=0.2)
    assert "objective_held_out" not in json.loads(next((plain.folder / "poisons").glob("*.json")).read_text())
    times = [path.stat().st_mtime_ns for path in sorted((adaptive.folder / "poisons").iterdir())]
    assert torch.equal(crafted(adaptive), found)
    assert times == [path.stat().st_mtime_ns for path in sorted((adaptive.folder / "poisons").iterdir())]
    with pytest.raises(InputError, match=r"was crafted with other settings or data"):
        crafted(plan(**common, name="adaptive"))
