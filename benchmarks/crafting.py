"""How fast crafting is, as a ratio to what the mathematics needs at least, measured in the same run on the same net and images.

Floors, per step: for feature attacks one forward and one backward pass to the images with the parameters frozen; for gradient
matching the same twice over (the parameters' gradient with its graph, then back to the images). Variants are interleaved, so
that a busy machine slows all alike; the ratio is the median over repeats.

    python benchmarks/crafting.py --out docs/records/crafting.json
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from poison_and_defend.attacks import Attack, BullseyePolytope, WitchesBrew
from poison_and_defend.attacks.crafting.precision import LowPrecision
from poison_and_defend.attacks.threat.surrogate import CraftBatch, Surrogate
from poison_and_defend.core.files import write_json
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.reports.provenance import provenance

Row = dict[str, object]

STEPS = 3
"""Timed steps of one repeat; the first step of a run prepares and is not timed."""


def make_batch(setups: int, poisons: int) -> CraftBatch:
    """Random images: what they show does not matter for time."""
    generator = torch.Generator().manual_seed(0)
    bases = torch.rand(setups, poisons, 3, 32, 32, generator=generator)
    targets = torch.rand(setups, 1, 3, 32, 32, generator=generator)
    return CraftBatch(bases, torch.ones(setups, poisons, dtype=torch.int64), targets, tuple(range(setups)))


def feature_floor(model: Classifier, batch: CraftBatch) -> Callable[[], None]:
    """Forward and backward to the images, parameters frozen."""
    images = batch.bases.flatten(0, 1).clone().requires_grad_()

    def step() -> None:
        model.requires_grad_(False)
        torch.autograd.grad(model.features(images).sum(), [images])

    return step


def matching_floor(model: Classifier, batch: CraftBatch) -> Callable[[], None]:
    """Double backpropagation to the images, setup by setup: each has a gradient of its own to match."""
    goal = [torch.randn_like(parameter) for parameter in model.parameters()]

    def step() -> None:
        parameters = list(model.requires_grad_(True).parameters())
        for images, labels in zip(batch.bases, batch.base_labels, strict=True):
            images = images.clone().requires_grad_()
            own = torch.autograd.grad(functional.cross_entropy(model(images), labels), parameters, create_graph=True)
            dot = torch.stack([(a * b).sum() for a, b in zip(own, goal, strict=True)]).sum()
            torch.autograd.grad(dot, [images])
        model.requires_grad_(False)

    return step


def seconds(step: Callable[[], None]) -> float:
    """Median of the timed calls, after one that is not."""
    times = []
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def attack_seconds(attack: Attack, batch: CraftBatch, surrogates: Sequence[Surrogate]) -> float:
    """Median time between the attack's own progress reports: all that a step does."""
    marks: list[float] = []

    def progress(objective: Tensor) -> None:
        del objective
        marks.append(time.perf_counter())

    attack.perturb(batch, surrogates, progress)
    return statistics.median(b - a for a, b in pairwise(marks))


def measure(network: str, setups: int, repeats: int, keep: Callable[[list[Row]], None]) -> None:
    """One row per attack, precision and batch size; all rows so far are handed to ``keep`` whenever there are more."""
    model = build_network(network, in_channels=3, num_classes=10).eval().requires_grad_(False)
    low = LowPrecision(build_network(network, in_channels=3, num_classes=10).eval().requires_grad_(False))
    steps = STEPS + 1
    cases = [
        ("bullseye_polytope", 25, feature_floor, BullseyePolytope("8/255", steps=steps)),
        ("witches_brew", 32, matching_floor, WitchesBrew("8/255", steps=steps, restarts=1)),
    ]
    rows: list[Row] = []
    for name, poisons, floor_of, attack in cases:
        for count in dict.fromkeys((1, setups)):
            batch = make_batch(count, poisons)
            floor = floor_of(model, batch)
            floors, ratios = [], {"float32": list[float](), "bfloat16": list[float]()}
            for _ in range(repeats):
                before = seconds(floor)
                single = attack_seconds(attack, batch, [model])
                half = attack_seconds(attack, batch, [low])
                # The floor once before and once after: a machine that grows busier must not flatter either side.
                reference = (before + seconds(floor)) / 2
                floors.append(reference)
                ratios["float32"].append(single / reference)
                ratios["bfloat16"].append(half / reference)
            for precision, values in ratios.items():
                rows.append(
                    {
                        "attack": name,
                        "backbone": network,
                        "setups": count,
                        "poisons_per_setup": poisons,
                        "precision": precision,
                        "floor_seconds": round(statistics.median(floors), 4),
                        "ratio": round(statistics.median(values), 3),
                        "ratio_range": [round(min(values), 3), round(max(values), 3)],
                        "repeats": repeats,
                    }
                )
                print(rows[-1], flush=True)
            keep(rows)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--setups", type=int, default=4, help="setups of the batched case")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()

    def keep(rows: list[Row]) -> None:
        if given.out is not None:
            write_json(given.out, {"threads": torch.get_num_threads(), **provenance("cpu", 1), "rows": rows})

    measure(given.network, given.setups, given.repeats, keep)


if __name__ == "__main__":
    main()
