"""How fast poisons are crafted through upsampled pretrained features, as ratios within one run.

The prototype computes EfficientNet-Lite0 under autocast to bfloat16, channels last, as it was built. Ours is the form that
frozen networks take; *overwriting* is that with activations in place. The floor is one forward and one backward pass of ours
to the images, without an attack. Through a denoiser, as an attacker who knows the defence looks: in single precision, under
autocast, and in the form that he computes it in. Variants take turns, so that a busy machine slows all alike; ratios are
medians over repeats.

    python -m benchmarks.photographs --out docs/records/photographs_speed.json
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.crafting import STEPS, attack_seconds, feature_floor, make_batch, seconds
from poison_and_defend.attacks import BullseyePolytope
from poison_and_defend.attacks.crafting.precision import LowPrecision
from poison_and_defend.attacks.threat.surrogate import CraftBatch
from poison_and_defend.core.files import write_json
from poison_and_defend.diffusion.denoiser import Denoiser, load_denoiser
from poison_and_defend.diffusion.gradient_form import gradient_form
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.frozen import frozen_form
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.reports.provenance import provenance
from poison_and_defend.training.features import extract_features

_SIDE = 32
_SIGMA = 0.1
_POISONS = 25


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--denoiser", default="photos-32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device("cpu")
    model = build_network(Network(given.network), in_channels=3, num_classes=10).eval().requires_grad_(False)
    prototype, ours = LowPrecision(model), frozen_form(model, 3, _SIDE, device)
    overwriting = copy.deepcopy(ours)
    for module in overwriting.body.modules():
        if getattr(module, "inplace", None) is not None:
            module.inplace = True  # type: ignore[assignment]
    denoiser = load_denoiser(given.denoiser)
    form = gradient_form(denoiser)
    batch, attack = make_batch(1, _POISONS), BullseyePolytope("8/255", steps=STEPS + 1)
    images = torch.randint(0, 256, (256, 3, _SIDE, _SIDE), dtype=torch.uint8)
    names = ("prototype", "overwriting", "ours", "floor", "denoiser, single", "denoiser, autocast", "denoiser, ours")
    measured: dict[str, list[float]] = {name: [] for name in (*names, "features a second")}
    for _ in range(given.repeats):
        measured["floor"].append(seconds(feature_floor(ours, batch)))
        measured["ours"].append(attack_seconds(attack, batch, [ours]))
        measured["overwriting"].append(attack_seconds(attack, batch, [overwriting]))
        measured["prototype"].append(attack_seconds(attack, batch, [prototype]))
        measured["denoiser, single"].append(seconds(_through(denoiser, batch)))
        measured["denoiser, autocast"].append(seconds(_through(denoiser, batch, autocast=True)))
        measured["denoiser, ours"].append(seconds(_through(form, batch)))
        started = time.perf_counter()
        extract_features(ours, images, device)
        measured["features a second"].append(len(images) / (time.perf_counter() - started))
    pairs = [("prototype", "ours"), ("overwriting", "ours"), ("ours", "floor")]
    pairs += [("denoiser, single", "denoiser, ours"), ("denoiser, autocast", "denoiser, ours")]
    ratios = {f"{a} over {b}": [x / y for x, y in zip(measured[a], measured[b], strict=True)] for a, b in pairs}
    found = {name: round(statistics.median(values), 4) for name, values in (measured | ratios).items()}
    ranges = {name: [round(min(values), 3), round(max(values), 3)] for name, values in ratios.items()}
    record = {
        "network": given.network,
        "denoiser": given.denoiser,
        "poisons": _POISONS,
        "threads": given.threads,
        "repeats": given.repeats,
    }
    record |= {"medians": found, "ranges": ranges, **provenance("cpu", 1)}
    print(record)
    if given.out is not None:
        write_json(given.out, record)


def _through(denoiser: Denoiser, batch: CraftBatch, *, autocast: bool = False) -> Callable[[], None]:
    """Forward and backward to the images through a denoiser."""
    images = batch.bases.flatten(0, 1).contiguous(memory_format=torch.channels_last).requires_grad_()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = denoiser(images, _SIGMA)
        torch.autograd.grad(found.float().sum(), [images])

    return step


if __name__ == "__main__":
    main()
