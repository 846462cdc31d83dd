"""Images per second of the whole `sanitize` command against its UNet's bare forward pass; and the command's peak memory.

The bare pass is timed three ways, before and after the command, since a machine's speed drifts: the model as diffusers loads
it; the same with weights and images channels last; and what the command does, sixteen images a thread. The command's time is
that of its process, from start to end, imports and all; and once more without its start-up, as the difference of two set sizes.

    python benchmarks/sanitizing.py --out docs/records/sanitizing.json
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from poison_and_defend.core.files import write_json
from poison_and_defend.diffusion.batches import BatchedDenoiser
from poison_and_defend.diffusion.denoiser import load_denoiser
from poison_and_defend.reports.provenance import provenance

BATCH = 64
SIGMA = 0.25


def save_denoiser(folder: Path, size: int) -> None:
    """A UNet of about a million parameters, with weights as they come."""
    torch.manual_seed(0)
    blocks = 3
    unet = UNet2DModel(
        sample_size=size,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D",) * blocks,
        up_block_types=("UpBlock2D",) * blocks,
        norm_num_groups=8,
    )
    unet.save_pretrained(folder)
    DDPMScheduler().save_pretrained(folder)


def save_images(folder: Path, count: int, size: int) -> None:
    """Pieces of two photographs as JPEG files in ten class folders."""
    photographs = load_sample_images().images
    places = np.random.default_rng(0)
    for number in range(count):
        photograph = photographs[number % 2]
        top, left = places.integers(0, photograph.shape[0] - size), places.integers(0, photograph.shape[1] - size)
        path = folder / f"class{number % 10}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph[top : top + size, left : left + size]).save(path, quality=90)


@torch.no_grad()
def bare(folder: Path, size: int, images: int) -> dict[str, float]:
    """Images per second of forward passes alone."""
    denoiser = load_denoiser(str(folder))
    batched = BatchedDenoiser(denoiser, SIGMA, batch_size=BATCH, device=torch.device("cpu"))
    noisy = torch.randn(BATCH, 3, size, size)
    time_step = denoiser.timestep(SIGMA)
    last = noisy.contiguous(memory_format=torch.channels_last)
    rates = {"as loaded": _rate(lambda: denoiser.unet(noisy, time_step).sample, images)}
    rates["sixteen a thread"] = _rate(lambda: batched.submit(noisy)(), images)
    denoiser.unet.to(memory_format=torch.channels_last)
    rates["channels last"] = _rate(lambda: denoiser.unet(last, time_step).sample, images)
    return rates


def _rate(step: Any, images: int) -> float:
    step()
    started = time.perf_counter()
    for _ in range(images // BATCH):
        result: Tensor = step()
    del result
    return images // BATCH * BATCH / (time.perf_counter() - started)


def command(images: Path, denoiser: Path, out: Path) -> tuple[float, float]:
    """Seconds and peak resident megabytes of one command."""
    options = ["--data.root", images, "--out", out, "--denoiser", denoiser, "--sigma", SIGMA]
    where = ["--trainer.accelerator", "cpu", "--trainer.devices", "1"]
    line = [sys.executable, "-m", "poison_and_defend", "sanitize", *map(str, options), *where]
    started, peak = time.perf_counter(), 0.0
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        # Not what wait4 says: that also counts the memory of this process, of which the other was a copy for a moment.
        peak = max(peak, _peak(process.pid))
        time.sleep(0.1)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"sanitize ended with status {process.returncode}")
    return seconds, peak


def _peak(pid: int) -> float:
    """Peak resident megabytes of a process until now."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return max((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), default=0.0)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--bare", type=int, default=1280, help="images of each bare timing")
    parser.add_argument("--memory", type=int, nargs=2, default=[1000, 20000], help="two numbers of images")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_denoiser(folder / "denoiser", given.size)
        for count in {given.images, *given.memory}:
            save_images(folder / str(count), count, given.size)
        before = bare(folder / "denoiser", given.size, given.bare)
        seconds, megabytes = command(folder / str(given.images), folder / "denoiser", folder / "out")
        after = bare(folder / "denoiser", given.size, given.bare)
        memory = {}
        times = {}
        for count in given.memory:
            times[count], memory[count] = command(folder / str(count), folder / "denoiser", folder / f"out{count}")
    rates = {way: (before[way] + after[way]) / 2 for way in before}
    whole = given.images / seconds
    few, many = given.memory
    steady = (many - few) / (times[many] - times[few])
    record = {
        "images": given.images,
        "size": given.size,
        "batch": BATCH,
        "threads": torch.get_num_threads(),
        "bare_images_per_second": {way: round(rate, 1) for way, rate in rates.items()},
        "bare_before_and_after": {way: [round(before[way], 1), round(after[way], 1)] for way in before},
        "command_images_per_second": round(whole, 1),
        "command_seconds": round(seconds, 1),
        "ratio": {way: round(whole / rate, 3) for way, rate in rates.items()},
        "without_start_up_images_per_second": round(steady, 1),
        "without_start_up_ratio": {way: round(steady / rate, 3) for way, rate in rates.items()},
        "start_up_seconds": round(seconds - given.images / steady, 1),
        "peak_megabytes": {str(count): round(peak) for count, peak in (*memory.items(), (given.images, megabytes))},
        "memory_ratio": round(memory[many] / memory[few], 3),
        **provenance("cpu", 1),
    }
    for way in rates:
        print(f"{whole:.0f} images a second, bare ({way}) {rates[way]:.0f}: {whole / rates[way]:.2f}")
    print(f"without start-up {steady:.0f}; peak memory {memory[few]:.0f} and {memory[many]:.0f} MB")
    if given.out is not None:
        write_json(given.out, record)


if __name__ == "__main__":
    main()
