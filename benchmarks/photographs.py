"""How fast poisons are crafted through upsampled pretrained features, as ratios within one run.

The prototype computes EfficientNet-Lite0 under autocast to bfloat16, channels last, as it was built. Ours is the form that
frozen networks take; *overwriting* is that with activations in place. The floor is one forward and one backward pass of ours
to the images, without an attack. Variants take turns, so that a busy machine slows all alike; ratios are medians over repeats.

    python -m benchmarks.photographs --out docs/records/photographs_speed.json
"""

import argparse
import copy
import statistics
import time
from pathlib import Path

import torch

from benchmarks.crafting import STEPS, attack_seconds, feature_floor, make_batch, seconds
from poison_and_defend.attacks import BullseyePolytope
from poison_and_defend.attacks.crafting.precision import LowPrecision
from poison_and_defend.core.files import write_json
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.frozen import frozen_form
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.reports.provenance import provenance
from poison_and_defend.training.features import extract_features

_SIDE = 32
_POISONS = 25


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="efficientnet_lite0")
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
    batch, attack = make_batch(1, _POISONS), BullseyePolytope("8/255", steps=STEPS + 1)
    images = torch.randint(0, 256, (256, 3, _SIDE, _SIDE), dtype=torch.uint8)
    measured: dict[str, list[float]] = {name: [] for name in ("prototype", "overwriting", "ours", "floor", "features a second")}
    for _ in range(given.repeats):
        measured["floor"].append(seconds(feature_floor(ours, batch)))
        measured["ours"].append(attack_seconds(attack, batch, [ours]))
        measured["overwriting"].append(attack_seconds(attack, batch, [overwriting]))
        measured["prototype"].append(attack_seconds(attack, batch, [prototype]))
        started = time.perf_counter()
        extract_features(ours, images, device)
        measured["features a second"].append(len(images) / (time.perf_counter() - started))
    ratios = {
        "prototype over ours": [a / b for a, b in zip(measured["prototype"], measured["ours"], strict=True)],
        "overwriting over ours": [a / b for a, b in zip(measured["overwriting"], measured["ours"], strict=True)],
        "ours over floor": [a / b for a, b in zip(measured["ours"], measured["floor"], strict=True)],
    }
    found = {name: round(statistics.median(values), 4) for name, values in (measured | ratios).items()}
    ranges = {name: [round(min(values), 3), round(max(values), 3)] for name, values in ratios.items()}
    record = {"network": given.network, "poisons": _POISONS, "threads": given.threads, "repeats": given.repeats}
    record |= {"medians": found, "ranges": ranges, **provenance("cpu", 1)}
    print(record)
    if given.out is not None:
        write_json(given.out, record)


if __name__ == "__main__":
    main()
