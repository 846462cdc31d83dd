import json
import re

import numpy as np
import pytest
import yaml

from poison_and_defend.poisons.files import load_poisons
from tests.end_to_end.conftest import NO_WANDB, SMALL
from tests.end_to_end.wandb_files import records as records_of

FIELDS = {
    "dataset", "scenario", "attack", "setup", "target_index", "target_label", "adversarial_label", "num_poisons", "norm", "eps",
    "defense", "sigma", "victim", "knowledge", "goal", "success", "successes", "trials", "clean_accuracy", "source_accuracy",
    "seed", "seconds", "revision",
}  # fmt: skip
DEFENSES = ["no_attack", "none", "noise_only", "denoise_only", "jpeg", "diffusion"]


def records(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_one_record_per_setup_and_defence(finished):
    rows = records(finished)
    assert [(r["setup"], r["defense"]) for r in rows] == [(s, d) for s in range(4) for d in DEFENSES]
    assert all(set(r) >= FIELDS for r in rows)
    assert all(r["success"] == (r["predicted"] == r["adversarial_label"]) for r in rows)


def test_the_attack_works_undefended_and_accuracy_is_real(finished):
    summary = {row["defense"]: row for row in json.loads((finished / "summary.json").read_text())}
    assert summary["none"]["n"] == 4 and summary["none"]["successes"] >= 3
    assert summary["no_attack"]["successes"] == 0
    assert summary["diffusion"]["successes"] < summary["none"]["successes"]
    assert all(0.8 < row["clean_accuracy"] <= 1 for row in summary.values())
    low, high = summary["none"]["ci_low"], summary["none"]["ci_high"]
    assert 0 <= low <= summary["none"]["success_rate"] <= high <= 1


def test_the_page_needs_no_network_and_shows_pictures(finished):
    page = (finished / "report.html").read_text()
    assert not re.search(r"(?:src|href)=.?https?://", page) and "<script" not in page
    assert page.count("data:image/png;base64,") == 6
    assert {p.name for p in (finished / "figures").glob("*.png")} >= {"comparison.png", "base_poison_noised_denoised.png"}


def test_the_full_configuration_is_kept_and_sent_to_wandb(finished):
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert config["attack"]["init_args"]["steps"] == 60 and config["victim_recipe"]["optimizer"] == "adam"
    runs = sorted((finished / "wandb").glob("offline-run-*"))
    assert len(runs) == 3
    groups, kinds, keys, sent = set(), set(), set(), []
    for run in runs:
        for record in records_of(next(run.glob("*.wandb"))):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                groups.add(record.run.run_group)
                kinds.add(record.run.job_type)
                sent += [item.key for item in record.run.config.update]
            elif kind == "config":
                sent += [item.key for item in record.config.update]
            elif kind == "history":
                keys |= {item.key or "/".join(item.nested_key) for item in record.history.item}
    assert groups == {"one"} and kinds == {"craft", "sanitize", "train"}
    assert {"attack", "victim_recipe", "sigma", "trainer"} <= set(sent)
    assert {"target_misclassification/none", "test_accuracy/diffusion", "victims/nrows", "poisons/nrows"} <= keys
    assert {"base_poison_noised_denoised/count", "base_poison_difference/count"} <= keys


def test_every_poison_set_keeps_its_budget(finished):
    paths = sorted((finished / "poisons").glob("*.safetensors"))
    assert len(paths) == 4
    for path in paths:
        poisons = load_poisons(path)
        change = np.abs(poisons.images.numpy().astype(int) - poisons.bases.numpy().astype(int))
        assert 0 < change.max() <= 64


def test_a_second_run_repeats_nothing(in_process, finished):
    before = {
        p: p.stat().st_mtime_ns
        for p in (*finished.rglob("*"), *(finished.parent / "stores").rglob("*"))
        if (p.is_file() and "stores" in p.parts) or p.suffix in (".safetensors", ".jsonl")
    }
    result = in_process("poison-and-defend", *SMALL, f"--output_dir={finished.parent}", "--name=one", WANDB_MODE="offline")
    assert result.returncode == 0 and "nothing is done twice" in result.stdout
    assert before == {p: p.stat().st_mtime_ns for p in before}
    assert len(list((finished / "wandb").glob("offline-run-*"))) == 3


def test_other_settings_in_the_same_folder_are_refused(in_process, finished):
    result = in_process("poison-and-defend", *SMALL, f"--output_dir={finished.parent}", "--name=one", "--sigma=0.4")
    assert result.returncode == 2 and "--name" in result.stderr and "Traceback" not in result.stderr


def test_the_report_can_be_made_again(in_process, finished):
    page = finished / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert in_process("report", f"--run={finished}").returncode == 0
    assert page.read_bytes() == before


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_give_the_same_bytes_and_the_same_summary(cli, finished, tmp_path):
    result = cli(
        "poison-and-defend", *SMALL, f"--output_dir={tmp_path}", "--name=two", "--trainer.devices=2", "--trainer.strategy=ddp"
    )
    assert result.returncode == 0, result.stderr
    two = tmp_path / "two"
    for one, other in ((finished / "stores", two / "stores"), (finished.parent / "stores", tmp_path / "stores")):
        assert {path.name.partition("-")[0] for path in other.iterdir()} == set(DEFENSES) - {"no_attack", "none"}
        for store in other.iterdir():
            assert (store / "images.npy").read_bytes() == (one / store.name / "images.npy").read_bytes(), store.name
    assert (finished / "summary.json").read_text() == (two / "summary.json").read_text()
    for path in (finished / "poisons").glob("*.safetensors"):
        assert path.read_bytes() == (two / "poisons" / path.name).read_bytes()


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_results(cli, finished, tmp_path):
    import os
    import signal
    import subprocess
    import sys
    import time

    arguments = ["poison-and-defend", *SMALL, f"--output_dir={tmp_path}", "--name=killed"]
    command = [sys.executable, "-m", "poison_and_defend", *arguments]
    process = subprocess.Popen(
        command, env={**os.environ, **NO_WANDB, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not list((tmp_path / "stores").glob("denoise_only-*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "results.jsonl").exists()
    result = cli(*arguments)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "killed" / "summary.json").read_text() == (finished / "summary.json").read_text()
