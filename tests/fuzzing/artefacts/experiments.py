"""Folders of experiments and certificates, and votes."""

from pathlib import Path
from typing import Any

import numpy as np

from poison_and_defend.certificate.looks import Look, Register
from poison_and_defend.certificate.plan import plan_certificate
from poison_and_defend.certificate.run import certify
from poison_and_defend.certificate.task import CertifyTask
from poison_and_defend.certificate.vote_store import VoteStore
from poison_and_defend.core.files import save_arrays, write_json
from poison_and_defend.core.options import from_flat
from poison_and_defend.experiment.task.claim import claim
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.poisons.files import save_poisons
from poison_and_defend.reports.certificate.write import write_certificate_report
from poison_and_defend.reports.experiment.write import write_report
from poison_and_defend.reports.provenance import provenance
from poison_and_defend.reports.records import write_results
from tests.fuzzing.artefacts.base import ONE, Artefact, Read, digits, small_poisons
from tests.picture_folders import photo
from tests.reports.conftest import build_result

VOTES = {"seed": 0, "sigma": 0.25}
LOOK = Look("0123456789abcdef", 5, "together, 0 select", 0.001)
SETTINGS = {"data": {"name": "digits"}, "seed": 0, "defenses": {"none": {"name": "none"}}, "rows": "abc", "num_setups": 1}


def _make_experiment(folder: Path) -> None:
    claim(folder, SETTINGS)
    results = [build_result(s, d, s > 0) for d in ("no_attack", "none", "diffusion") for s in range(3)]
    write_results(folder / "results.jsonl", results)
    write_json(folder / "provenance.json", provenance("cpu", 1))
    (folder / "config.yaml").write_text("seed: 0\n")
    save_poisons(small_poisons(trigger=False), folder / "poisons")
    rng = np.random.default_rng(0)
    groups = {name: rng.random((4, 6), np.float32) for name in ("base_class", "target_class", "poisons", "targets")}
    save_arrays(folder / "figures" / "features_none.npz", groups | {"shared": np.bool_(True)})
    save_arrays(folder / "figures" / "tested.npz", {"setup_000": small_poisons(trigger=False).images.numpy()})
    photo(0).save(folder / "figures" / "base_poison_noised_denoised.png")


def _claim(folder: Path) -> None:
    claim(folder, SETTINGS)


def _certificate(folder: Path) -> CertifyTask:
    recipe = Recipe(epochs=1, batch_size=256)
    sizes: dict[str, Any] = {
        "m": [5],
        "models": 10,
        "alpha": 0.05,
        "test_images": 6,
        "members_per_block": 5,
        "feature_draws": 0,
    }
    names: dict[str, Any] = {"output_dir": str(folder), "name": "one", "wandb_project": None, "threads": 1}
    options = {"data": digits(), "sigma": [0.2], "defense": "noise_only", "recipe": recipe, "feature_recipe": recipe}
    return from_flat(CertifyTask, options | sizes | names)


def _make_certificate(folder: Path) -> None:
    certify(plan_certificate(_certificate(folder)), ONE, "sigma: 0.2\n")


def _report_certificate(folder: Path) -> None:
    write_certificate_report(folder / "one")


def _make_votes(folder: Path) -> None:
    store = VoteStore(folder / "votes", VOTES, 6, 10)
    store.create()
    rng = np.random.default_rng(0)
    for block in (range(0, 3), range(3, 5)):
        marks = np.arange(block.start, block.stop, dtype=np.uint64)
        store.add(block, rng.integers(0, 10, (len(block), 6)).astype(np.uint16), marks)
    Register(folder / "looks.json").note(LOOK)


def _read_votes(folder: Path) -> None:
    store = VoteStore(folder / "votes", VOTES, 6, 10)
    store.create()
    store.done(0, 5)
    store.read(0, 5)
    Register(folder / "looks.json").note(LOOK)


MAKERS: dict[str, Read] = {
    "experiment": _make_experiment,
    "certificate": _make_certificate,
    "votes": _make_votes,
}


def artefacts() -> list[Artefact]:
    """In an order that is always the same."""
    return [
        Artefact("experiment", "settings.json", _claim),
        Artefact("experiment", "results.jsonl", write_report, None, 6),
        Artefact("experiment", "provenance.json", write_report, None, 1),
        Artefact("experiment", "config.yaml", write_report, None, 1),
        Artefact("experiment", "poisons/setup_000.json", write_report, None, 2),
        Artefact("experiment", "figures/features_none.npz", write_report, None, 4),
        Artefact("experiment", "figures/tested.npz", write_report, None, 3),
        Artefact("experiment", "figures/base_poison_noised_denoised.png", write_report, None, 1),
        Artefact("certificate", "one/certificate.json", _report_certificate, None, 8),
        Artefact("certificate", "one/sigma_0.2_m_5.npz", _report_certificate, None, 5),
        *(
            Artefact("votes", name, _read_votes, None, 6)
            for name in ("votes/manifest.json", "votes/votes_000000_000003.npz", "looks.json")
        ),
    ]
