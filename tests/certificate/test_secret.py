"""Where a certificate's randomness comes from."""

import json
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from poison_and_defend.certificate.plan import plan_certificate
from poison_and_defend.certificate.run import certify
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.noise_secret import secret_path
from poison_and_defend.training.launch import Launch
from tests.certificate.test_run import task

CPU = Launch(accelerator="cpu", devices=1)


def votes(folder: Path) -> np.ndarray:
    paths = sorted((folder / "small" / "votes" / "sigma_0.2_m_40").glob("*.npz"))
    return np.concatenate([np.load(path)["votes"] for path in paths])


@pytest.mark.slow
def test_randomness_is_a_secret_that_later_runs_continue(tmp_path: Path) -> None:
    certify(plan_certificate(task(tmp_path, noise_seed=None, models=60)), CPU, "")
    place = tmp_path / "small"
    result = json.loads((place / "certificate.json").read_text())
    commitment = result["randomness"]["commitment"]
    private = secret_path(place, commitment)
    seed = json.loads(private.read_text())["seed"]
    assert result["randomness"]["noise_seed"] == "secret" and stat.S_IMODE(private.stat().st_mode) == 0o600
    told = [path for path in place.rglob("*") if path.is_file() and str(seed).encode() in path.read_bytes()]
    assert not told
    page = (place / "report.html").read_text()
    assert commitment in page and "was given, for reproduction" not in page
    first = votes(tmp_path)
    certify(plan_certificate(task(tmp_path, noise_seed=None, models=80)), CPU, "")
    assert np.array_equal(votes(tmp_path)[:60], first) and len(votes(tmp_path)) == 80
    # Its owner can show what was drawn, and whoever draws again gets other votes.
    (tmp_path / "told").mkdir()
    shutil.copytree(tmp_path / "models", tmp_path / "told" / "models")
    certify(plan_certificate(task(tmp_path / "told", noise_seed=seed, models=60)), CPU, "")
    assert np.array_equal(votes(tmp_path / "told"), first)
    page = (tmp_path / "told" / "small" / "report.html").read_text()
    assert f"The seed {seed} of subsamples, noise and training was given" in page
    (tmp_path / "again").mkdir()
    shutil.copytree(tmp_path / "models", tmp_path / "again" / "models")
    certify(plan_certificate(task(tmp_path / "again", noise_seed=None, models=60)), CPU, "")
    assert not np.array_equal(votes(tmp_path / "again"), first)
    # Votes of a given seed are not added to those of a secret.
    with pytest.raises(InputError, match="holds votes of models with commitment"):
        certify(plan_certificate(task(tmp_path, noise_seed=seed, models=80)), CPU, "")
    private.unlink()
    with pytest.raises(InputError, match=r"the noise seed of .*small is gone .*--output_dir"):
        certify(plan_certificate(task(tmp_path, noise_seed=None, models=90)), CPU, "")


@pytest.mark.slow
def test_a_folder_that_begins_anew_draws_anew(tmp_path: Path) -> None:
    certify(plan_certificate(task(tmp_path, noise_seed=None, models=60)), CPU, "")
    old = json.loads((tmp_path / "small" / "noise.json").read_text())["commitment"]
    shutil.rmtree(tmp_path / "small")
    certify(plan_certificate(task(tmp_path, noise_seed=None, models=60)), CPU, "")
    new = json.loads((tmp_path / "small" / "noise.json").read_text())["commitment"]
    assert new != old
    assert [path.name for path in tmp_path.glob(".small.noise-*")] == [secret_path(tmp_path / "small", new).name]


def test_a_seed_below_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"noise_seed is -1: it must be at least 0 \(--noise_seed\)"):
        certify(plan_certificate(task(tmp_path, noise_seed=-1)), CPU, "")
