"""The `sanitize` command on a GPU: speed, equal bytes after a kill, how soon it stops, and how far from a CPU's result it is.

python benchmarks/sanitize_on_gpu.py --images 20000 --out docs/records/sanitize_on_gpu.json
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from poison_and_defend.core.files import write_json
from poison_and_defend.reports.provenance import provenance

COMMAND = [sys.executable, "-m", "poison_and_defend", "sanitize"]


def save_images(folder: Path, count: int) -> None:
    """Pieces of two photographs as PNG files in ten classes."""
    photographs, places = load_sample_images().images, np.random.default_rng(0)
    for number in range(count):
        top, left = places.integers(0, 390), places.integers(0, 600)
        path = folder / f"class{number % 10}" / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photographs[number % 2][top : top + 32, left : left + 32]).save(path)


def command(root: Path, out: Path, *options: str) -> list[str]:
    """The command line."""
    given = ["--data.root", str(root), "--out", str(out), "--denoiser", "cifar10", "--sigma", "0.1", "--noise_seed", "0"]
    return [*COMMAND, *given, *options]


def run(root: Path, out: Path, *options: str) -> float:
    """Seconds from start to end."""
    began = time.monotonic()
    subprocess.run(command(root, out, *options), check=True)
    return time.monotonic() - began


def stop(root: Path, out: Path, number: signal.Signals, after: int, *options: str) -> dict[str, Any]:
    """Send a signal once so many blocks are done; status and how long the end took."""
    process = subprocess.Popen(command(root, out, *options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    blocks = out / ".unfinished" / "blocks"
    while process.poll() is None and not (blocks.is_dir() and len(os.listdir(blocks)) >= after):  # noqa: PTH208 - counts only
        time.sleep(0.002)
    began = time.monotonic()
    process.send_signal(number)
    text = process.communicate()[1]
    done = re.search(r"(\d+) of \d+ images are done", text)
    status = process.returncode
    return {"status": status, "seconds": round(time.monotonic() - began, 2), "done": done and int(done[1])}


def pixels(folder: Path) -> dict[str, bytes]:
    """Every image file."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        save_images(place / "in", given.images)
        save_images(place / "few", 500)
        seconds = {"first": run(place / "in", place / "gpu"), "few": run(place / "few", place / "few_gpu")}
        manifest = json.loads((place / "gpu" / "manifest.json").read_text())
        killed = stop(place / "in", place / "killed", signal.SIGKILL, 3)
        stopped = stop(place / "in", place / "stopped", signal.SIGTERM, 1)
        again = {kind: round(run(place / "in", place / kind), 1) for kind in ("killed", "stopped")}
        same = all(pixels(place / kind) == pixels(place / "gpu") for kind in ("killed", "stopped"))
        run(place / "few", place / "few_32", "--precision", "float32")
        run(place / "few", place / "few_cpu", "--trainer.accelerator", "cpu")
        images = {
            kind: np.stack([np.asarray(Image.open(path)) for path in sorted((place / kind).rglob("*.png"))]).astype(int)
            for kind in ("few_gpu", "few_32", "few_cpu")
        }
        verified = subprocess.run([*COMMAND, "--verify", str(place / "killed")], check=False)
    difference = {
        kind: {
            "mean_levels": float(np.abs(images[kind] - images["few_cpu"]).mean()),
            "most": int(np.abs(images[kind] - images["few_cpu"]).max()),
        }
        for kind in ("few_gpu", "few_32")
    }
    record = {
        "images": given.images,
        "settings": {key: manifest["settings"][key] for key in ("batch_size", "precision", "sigma")},
        "seconds": {key: round(value, 1) for key, value in seconds.items()},
        "images_per_second_without_start_up": round((given.images - 500) / (seconds["first"] - seconds["few"]), 1),
        "killed": killed,
        "stopped_by_sigterm": stopped,
        "seconds_of_the_rest": again,
        "same_bytes_as_undisturbed": same,
        "verified": verified.returncode == 0,
        "against_float32_on_cpu": difference,
        "command": f"python benchmarks/sanitize_on_gpu.py --images {given.images}",
        **provenance("cuda:0", 1),
    }
    write_json(given.out, record)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
