"""Kills at random moments, over a folder, an .npz, an experiment and a certificate: what was lost, wrong or left behind.

Every job runs in a process of its own that is killed (SIGKILL) a few times and then left to finish; its files are compared with
those of an undisturbed run, and whatever else lies there is counted as left. A process is forked from one that has imported
everything, so that kills fall into work and not into imports.

    OMP_NUM_THREADS=1 python benchmarks/kills.py --out docs/records/kills.json
"""

import argparse
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from poison_and_defend.attacks import BullseyePolytope
from poison_and_defend.certificate.plan import plan_certificate
from poison_and_defend.certificate.run import certify
from poison_and_defend.certificate.task import CertifyTask
from poison_and_defend.cleaning.run import sanitize_alone
from poison_and_defend.cleaning.task import SanitizeInput, SanitizeTask
from poison_and_defend.core.files import write_json
from poison_and_defend.core.options import from_flat
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.experiment.run import run
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.experiment.task.plan import plan_experiment
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.reports.provenance import provenance
from poison_and_defend.storage.verify import verify
from poison_and_defend.training.launch import Launch

CPU = Launch(accelerator="cpu", devices=1)
DENOISER = "cifar10"
IMAGES = 160
MOST = 4
"""Kills of a round, before the job is left to finish."""

Job = Callable[[Path], None]


def save_images(folder: Path) -> None:
    """Pieces of two photographs as PNG files in four classes."""
    photographs = load_sample_images().images
    places = np.random.default_rng(0)
    for number in range(IMAGES):
        top, left = places.integers(0, 390), places.integers(0, 600)
        path = folder / f"class{number % 4}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photographs[number % 2][top : top + 32, left : left + 32]).save(path)


def sanitize(folder: Path, out: str) -> None:
    """The command on 160 images of 32 x 32, 8 a block."""
    data = SanitizeInput(str(folder.parent / "images"))
    sanitize_alone(SanitizeTask(str(folder / out), data, denoiser=DENOISER, sigma=0.1, batch_size=8, noise_seed=0), CPU)


def experiment(folder: Path) -> None:
    """Four setups of digits against a defence, crafted two at a time."""
    options: dict[str, Any] = {
        "data": DigitsDataModule(),
        "attack": BullseyePolytope("64/255", steps=20),
        "num_setups": 4,
        "num_poisons": 5,
        "setups_per_batch": 2,
        "defenses": ["no_attack", "none", "noise_only"],
        "feature_recipe": Recipe(epochs=3),
        "victim_recipe": Recipe(epochs=3, optimizer="adam", learning_rate=0.01),
        "output_dir": str(folder),
        "name": "killed",
        "wandb_project": None,
    }
    run(plan_experiment(from_flat(Experiment, options)), CPU, "a: 1\n")


def certificate(folder: Path) -> None:
    """Sixty linear heads in blocks of six."""
    options: dict[str, Any] = {
        "sigma": 0.25,
        "m": 20,
        "models": 60,
        "alpha": 0.05,
        "defense": "noise_only",
        "feature_draws": 0,
        "feature_recipe": Recipe(epochs=3),
        "recipe": Recipe(epochs=30, batch_size=1024, learning_rate=0.05),
        "members_per_block": 6,
        "threads": 1,
        "noise_seed": 0,
        "output_dir": str(folder),
        "name": "killed",
        "wandb_project": None,
    }
    certify(plan_certificate(from_flat(CertifyTask, {"data": DigitsDataModule(), **options})), CPU, "a: 1\n")


JOBS: dict[str, Job] = {
    "folder": lambda folder: sanitize(folder, "clean"),
    "npz": lambda folder: sanitize(folder, "clean.npz"),
    "experiment": experiment,
    "certificate": certificate,
}
# What says when or how long, of which no two runs agree.
_TIMES = {"seconds", "wall_seconds", "provenance"}


def without_times(value: Any) -> Any:
    """A JSON value without its times."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in _TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file, times left out; of pages, which hold them, that they are there."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            found[name] = "folder"
            continue
        data = path.read_bytes()
        if path.suffix in (".json", ".jsonl"):
            values = [without_times(json.loads(line)) for line in ([data] if path.suffix == ".json" else data.splitlines())]
            data = json.dumps(values).encode()
        found[name] = "page" if path.suffix == ".html" else hashlib.sha256(data).hexdigest()
    # Of input files: sizes and times.
    return {name: "kept" if name.endswith(".inputs.npy") else digest for name, digest in found.items()}


def start(job: Job, folder: Path) -> int:
    """Fork a process that does a job; returns its number."""
    number = os.fork()
    if number == 0:
        status = 1
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                job(folder)
            status = 0
        except BaseException as error:
            print(repr(error), file=sys.__stderr__, flush=True)
        os._exit(status)
    return number


def wait(number: int, seconds: float | None = None) -> int | None:
    """A process's status, or None if it has none after so many seconds."""
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        found, status = os.waitpid(number, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if end is not None and time.monotonic() > end:
            return None
        time.sleep(0.002)


def measure(kind: str, job: Job, kills: int, rng: random.Random, place: Path) -> dict[str, Any]:
    """Kill one kind of job so often, in rounds that each begin anew and are left to finish."""
    undisturbed = place / f"{kind}-undisturbed"
    undisturbed.mkdir()
    began = time.monotonic()
    if wait(start(job, undisturbed)) != 0:
        raise RuntimeError(f"{kind} does not run at all")
    seconds, expected = time.monotonic() - began, contents(undisturbed)
    counts = {"kills": 0, "rounds": 0, "lost": 0, "wrong": 0, "left": 0, "failed": 0}
    while counts["kills"] < kills:
        number = counts["rounds"]
        counts["rounds"] += 1
        folder = place / f"{kind}-{number}"
        folder.mkdir()
        for _ in range(MOST):
            process = start(job, folder)
            # Later starts have less to do: kills fall earlier, too.
            if wait(process, rng.uniform(0, 0.7) * seconds) is not None:
                break
            os.kill(process, signal.SIGKILL)
            wait(process)
            counts["kills"] += 1
        counts["failed"] += wait(start(job, folder)) != 0
        found = contents(folder)
        counts["lost"] += len(set(expected) - set(found))
        counts["left"] += len(set(found) - set(expected))
        counts["wrong"] += sum(found[name] != expected[name] for name in set(found) & set(expected))
        for name in sorted(set(found) ^ set(expected)) + [n for n in set(found) & set(expected) if found[n] != expected[n]]:
            print(f"{kind}, round {number}: {name}", flush=True)
        if kind in ("folder", "npz"):
            verify(folder / ("clean" if kind == "folder" else "clean.npz"), lambda done, total: None)
        shutil.rmtree(folder)
    print(kind, counts, f"{seconds:.1f} s undisturbed", flush=True)
    return counts | {"seconds_undisturbed": round(seconds, 2), "files": len(expected)}


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="of every kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(JOBS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    # Threads do not survive a fork.
    torch.set_num_threads(1)
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        save_images(place / "images")
        kinds = {kind: measure(kind, JOBS[kind], given.kills, rng, place) for kind in given.kinds.split(",")}
    record = {"kinds": kinds, "kills": sum(k["kills"] for k in kinds.values()), "seed": given.seed, **provenance("cpu", 1)}
    if given.out is not None:
        write_json(given.out, record)
    print(json.dumps(record["kinds"]))


if __name__ == "__main__":
    main()
