"""Every countermeasure that has a preset, against the same poisons of digits, small."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from importlib.resources import files
from pathlib import Path
from statistics import fmean

import pytest

from poison_and_defend.reports.records import Result, read_results
from tests.end_to_end.conftest import NO_WANDB

pytestmark = pytest.mark.slow

# Digits' network has no batch normalization to look at; chains and the control are named apart.
LEFT_OUT = {"characteristic_vectors", "none", "no_attack"}
PRESETS = sorted(
    path.name.removesuffix(".yaml")
    for path in (files("poison_and_defend") / "configs" / "defense").iterdir()
    if path.name.endswith(".yaml") and path.name.removesuffix(".yaml") not in LEFT_OUT
)
CHAINS = ("diffusion+neighbours", "jpeg_50+deep_knn")
QUICK = (
    "--arms.puregen_ddpm.evaluations=4", "--arms.ancestral.evaluations=3", "--arms.ddim.steps=3", "--arms.adversarial.steps=1",
    "--arms.adversarial_poisoning.steps=1", "--arms.friends.steps=5", "--arms.epic.start=2",
    "--arms.maxup.warmup=1", "--arms.maxup.copies=2",
)  # fmt: skip
SETUPS = 4


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Result]]:
    """Of every arm, by its name."""
    folder = tmp_path_factory.mktemp("countermeasures")
    script = Path(sys.executable).parent / "poison-and-defend"
    arms = ",".join(["no_attack", "none", *PRESETS, *CHAINS])
    given = ["poison-and-defend", "--config", "digits", "--name", "all", "--num_setups", str(SETUPS), "--threads", "1"]
    given += ["--jpeg_quality", "60", "--victim_recipe.epochs", "12", "--defenses", f"[{arms}]", *QUICK]
    environment = os.environ | NO_WANDB | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run([script, *given], cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = defaultdict(list)
    for result in read_results(folder / "runs" / "all" / "results.jsonl"):
        found[result.defense].append(result)
    assert json.loads((folder / "runs" / "all" / "summary.json").read_text())
    return found


def test_all_arms_saw_the_same_setups(results) -> None:
    assert set(results) == {"no_attack", "none", *PRESETS, *CHAINS}
    seen = {tuple((one.setup, one.target_index, one.seed) for one in own) for own in results.values()}
    assert len(seen) == 1 and len(results["none"]) == SETUPS


def test_the_attack_works_and_the_controls_are_what_they_are(results) -> None:
    rate = {name: fmean(one.rate for one in own) for name, own in results.items()}
    assert rate["none"] >= 0.75 and rate["no_attack"] == 0
    # Who knows the poisons drops them all and nothing else; chance drops about as many of either.
    perfect, chance = results["perfect_filter"], results["random_filter"]
    assert rate["perfect_filter"] == 0
    assert {(one.poisons_dropped, one.clean_dropped) for one in perfect} == {(1.0, 0.0)}
    assert abs(fmean(one.poisons_dropped - one.clean_dropped for one in chance)) < 0.15
    assert rate["diffusion"] <= 0.5 and rate["jpeg_85"] >= 0.5


def test_filters_find_what_chance_does_not(results) -> None:
    found = {name: fmean(one.auroc for one in results[name]) for name in ("spectral_signatures", "deep_knn", "random_filter")}
    assert found["random_filter"] < 0.7
    assert max(found.values()) > 0.8


def test_accuracy_is_kept_and_votes_prove_something(results) -> None:
    for name, own in results.items():
        # Noise of DP-SGD's usual size, and forty heads that see a tenth of 598 digits, cost what they cost.
        assert fmean(one.clean_accuracy for one in own) > 0.6, name
    for name in ("partition", "finite_aggregation", "run_off", "bagging", "neighbours", "kernel", "hybrid", "trusted_only"):
        shares = [fmean(one.certified[count] for one in results[name]) for count in ("1", "25")]
        assert shares[0] > 0.3 and shares[0] >= shares[1], name


def test_records_say_what_each_was_told(results) -> None:
    told = {name: own[0].told for name, own in results.items()}
    assert told["perfect_filter"] == "which rows are poisoned"
    assert "25 poisons of a class at most" in told["spectral_signatures"]
    assert told["diffusion"] == told["epic"] == told["activation_clustering"] == told["neighbours"] == ""
