"""The figures that the default commands must reach, measured by the commands themselves."""

import json

import pytest


@pytest.mark.slow
def test_the_default_run_reaches_its_targets(cli, tmp_path):
    result = cli("poison-and-defend", f"--output_dir={tmp_path}", "--name=default", timeout=1500, OMP_NUM_THREADS="2")
    assert result.returncode == 0, result.stderr
    summary = {row["defense"]: row for row in json.loads((tmp_path / "default" / "summary.json").read_text())}
    none, diffusion = summary["none"], summary["diffusion"]
    assert none["n"] >= 20 and none["success_rate"] >= 0.7
    assert diffusion["success_rate"] <= 0.05
    assert diffusion["clean_accuracy"] >= none["clean_accuracy"] - 0.015
    assert {"jpeg", "noise_only"} <= set(summary)
