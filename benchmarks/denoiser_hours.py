"""What longer training of a denoiser is worth: heads' accuracy on denoised images, and the processor time of its training.

Each length is a training of its own, with its own schedule, from an untrained network on pixels (``--pixels``) and from
``photos-32`` on pixels and features (``--features``), as the preset ``denoiser/photos`` says. Time is that of the processor,
over all cores, so that waiting for other work does not count; it includes reading images and loading libraries.

    python -m benchmarks.denoiser_hours --root DATA --tiny FOLDER --setups FILE --pixels 300 1200 --features 900 --out FILE
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.denoising import Bench
from poison_and_defend.core.files import write_json
from poison_and_defend.datamodules import ArraysDataModule
from poison_and_defend.diffusion.denoiser import load_denoiser
from poison_and_defend.reports.provenance import provenance

_BEGIN = "photos-32"
_FEATURES = ["--model.begin_with", _BEGIN, "--model.features", "{build: efficientnet_lite0}", "--model.seed", "1"]
_RATE = ["--model.learning_rate", "0.0005", "--model.warmup", "50"]


def main() -> None:
    """Train, measure and write, a row after each training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder with cifar10-jpeg/train.npz and test.npz")
    parser.add_argument("--tiny", type=Path, required=True, help="folder of Tiny ImageNet")
    parser.add_argument("--setups", type=Path, required=True, help="cifar10_transfer_learning.json of the public benchmark")
    parser.add_argument("--pixels", nargs="*", type=int, default=[300, 1200], help="steps from an untrained network")
    parser.add_argument("--features", nargs="*", type=int, default=[900, 1900], help=f"further steps of {_BEGIN}")
    parser.add_argument("--sigmas", nargs="+", type=float, default=[0.1, 0.25])
    parser.add_argument("--count", type=int, default=500, help="training images of the heads")
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    networks = ["efficientnet_lite0", "efficientnet_lite2"]
    parser.add_argument("--network", nargs="+", default=networks, help="whose features heads see")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    files = [str(given.root / "cifar10-jpeg" / f"{name}.npz") for name in ("train", "test")]
    data = ArraysDataModule(files[0], files[1])
    benches = {name: Bench.of(data, name, given.count, torch.device("cpu")) for name in given.network}
    fixed = ["--data.setups", str(given.setups), "--data.more.init_args.root", str(given.tiny)]
    fixed += ["--data.source.init_args.train", files[0], "--data.source.init_args.test", files[1]]
    rows: list[dict[str, Any]] = []

    def measure(phase: str, steps: int, seconds: float | None, denoiser: str) -> None:
        loaded = load_denoiser(denoiser)
        for sigma in given.sigmas:
            heads = {name: bench.measure(loaded, sigma, [given.count], given.draws) for name, bench in benches.items()}
            rows.append({"phase": phase, "steps": steps, "core_seconds": seconds, "sigma": sigma, "heads": heads})
            print(json.dumps(rows[-1]), flush=True)
        known = {"draws": given.draws, "count": given.count, "begin_with": _BEGIN}
        write_json(given.out, {**provenance("cpu", given.threads), **known, "rows": rows})

    measure("shipped", 0, None, _BEGIN)
    with tempfile.TemporaryDirectory() as folder:
        for phase, lengths, options in (("pixels", given.pixels, []), ("features", given.features, [*_FEATURES, *_RATE])):
            for steps in lengths:
                out = Path(folder) / f"{phase}-{steps}"
                seconds = _train([*fixed, *options, "--trainer.max_steps", str(steps), "--out", str(out)], given.threads)
                measure(phase, steps, seconds, str(out))


def _train(options: list[str], threads: int) -> float:
    """Train a denoiser in a process of its own.

    Returns:
        Seconds of processor time, of all cores together.
    """
    before = _spent()
    command = [sys.executable, "-m", "poison_and_defend", "train-denoiser", "--config", "denoiser/photos", *options]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    return round(_spent() - before, 1)


def _spent() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
