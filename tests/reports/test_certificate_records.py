"""Every committed certificate says what its own votes say, and what a certificate can say at all."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poison_and_defend.certification import FixedSize, certified_share, l2_norm, needed_grid, vote_bounds
from poison_and_defend.core.lengths import parse_length
from poison_and_defend.reports.certificate.records import read_certificate

RECORDS = Path(__file__).resolve().parents[2] / "docs" / "records"
PATHS = sorted(RECORDS.rglob("certificate.json"))


def read(path: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(path.read_text())
    return result


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.parent.name)
def test_a_record_is_consistent(path: Path) -> None:
    result = read(path)
    assert result["certified"] == (result["void"] == [])
    assert not result["provenance"]["revision"].endswith("-dirty")
    for record in result["settings"]:
        table, together = np.array(record["table"]), np.array(record["table_all_images"])
        assert (together <= table).all() and (table <= record["accuracy"]).all()
        assert (np.diff(table, axis=0) <= 0).all() and (np.diff(table, axis=1) <= 0).all()
        assert record["median_radius"] >= record["median_paper_radius"]
        radii = [np.inf if r is None else r for r in result["radii"]]
        trigger = parse_length(result["trigger"]) if result.get("trigger") else 0.0
        shift = l2_norm(trigger, result["norm"], result["image_shape"]) / result["test_sigma"] if trigger else 0.0
        needed = needed_grid(result["k"], radii, record["sigma"], FixedSize(record["n"], record["m"]), shift)
        assert record["needed"] == pytest.approx(needed)


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.parent.name)
def test_a_record_that_is_read_says_what_it_said(path: Path) -> None:
    written, again = read(path), read_certificate(path).to_json()
    assert {key: again[key] for key in written} == written
    # What there was not yet comes after what there was.
    assert [*again][: len(written)] == [*written] or not {"randomness", "radii"} <= written.keys()


@pytest.mark.parametrize("path", sorted(RECORDS.rglob("sigma_*.npz")), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_the_table_follows_from_the_votes(path: Path) -> None:
    result, arrays = read(path.parent / "certificate.json"), np.load(path)
    record = next(
        r for r in [*result["settings"], *result.get("bagging", [])] if path.stem == f"sigma_{r['sigma']:g}_m_{r['m']}"
    )
    bounds = vote_bounds(arrays["counts"], result["alpha"])
    assert (arrays["counts"].sum(1) == record["models"]).all() and (bounds.labels == arrays["winners"]).all()
    # Whether a winner is right is all that the votes do not say.
    right = arrays["lower_bounds"] * (arrays["radii"] >= 0)
    assert np.array(record["table"]) == pytest.approx(certified_share(right, np.array(record["needed"])))


def test_there_are_records_to_check() -> None:
    assert {path.parent.name for path in PATHS} >= {"digits_certificate", "mnist_certificate"}
