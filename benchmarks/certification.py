"""Voters per second, against the same models trained one after another with an ordinary loop.

Both train with the same recipe from the same seeds on the same noisy subsamples of scikit-learn's digits, and let every model
read the test images. Drawing, noising and, for heads, taking features are measured apart, since both need them alike. The loop
is what one writes first: a model, an optimiser, epochs and batches. It uses all threads that torch takes by itself. Rounds
alternate, so that a busy machine hurts both.

For whole networks the floor stands beside: the bare forward and backward passes of as many models on the machine's cores and
nothing else, in each of several layouts and precisions. What trains and votes cannot be faster than the fastest of these.

    python benchmarks/certification.py --out docs/records/certification.json
"""

import argparse
import copy
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from poison_and_defend.certificate.voters import Voters, member_seed, noise_seed
from poison_and_defend.certification import FixedSize
from poison_and_defend.core.files import write_json
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.streams import epoch_order
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.defenses import NoiseOnly
from poison_and_defend.lightning_modules.classifier import fresh_head
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.lightning_modules.member_threads import pool_first
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.reports.provenance import provenance
from poison_and_defend.training.features import extract_features
from poison_and_defend.training.launch import quiet_lightning

BLOCK = 500


def ordinary_loop(voters: Voters, data: EnsembleData, members: range) -> np.ndarray:
    """Train and ask one model after another; returns their votes."""
    votes = []
    for place, member in enumerate(members):
        inputs, labels = data.pool[data.rows[place]], data.labels[data.rows[place]]
        inputs = inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs
        seed = member_seed(voters.seed, member)
        model = voters.build(seed).train()
        optimizer = voters.recipe.build_optimizer(model.parameters())
        scheduler = voters.recipe.build_scheduler(optimizer)
        for epoch in range(voters.recipe.epochs):
            for batch in epoch_order(len(labels), seed, epoch).split(voters.recipe.batch_size):
                optimizer.zero_grad()
                functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
                optimizer.step()
            scheduler.step()
        votes.append(_ask(model.eval(), voters.tested))
    return np.stack(votes)


@torch.no_grad()
def _ask(model: nn.Module, tested: Tensor) -> np.ndarray:
    parts = [model(part.float() / 255 if part.dtype == torch.uint8 else part).argmax(1) for part in tested.split(512)]
    return torch.cat(parts).numpy()


def bare_passes(voters: Voters, data: EnsembleData, models: int) -> dict[str, float]:
    """Models per second of the passes alone, by layout: no draw, no update, the same weights and images again and again."""
    inputs, labels = data.pool[data.rows[0]].float() / 255, data.labels[data.rows[0]]
    tested = voters.tested.float() / 255
    template = pool_first(voters.build(0)).to(memory_format=torch.channels_last)

    def passes(size: int, half: bool) -> None:
        torch.set_num_threads(1)
        model = copy.deepcopy(template).train()
        for _ in range(voters.recipe.epochs):
            for images, wanted in zip(inputs.split(size), labels.split(size), strict=True):
                with torch.autocast("cpu", torch.bfloat16, enabled=half):
                    logits = model(images.clone(memory_format=torch.channels_last)).float()
                functional.cross_entropy(logits, wanted).backward()
        model.eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            for images in tested.split(size):
                model(images.clone(memory_format=torch.channels_last))

    found = {}
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for size in (16, len(labels)):
            for half in (False, True):
                started = time.perf_counter()
                list(pool.map(lambda _, size=size, half=half: passes(size, half), range(models)))
                name = f"{'bfloat16' if half else 'float32'}, {size} images at once"
                found[name] = models / (time.perf_counter() - started)
    return found


def cases(m: int) -> dict[str, tuple[Voters, int, int]]:
    """Voters, how many we train, and how many the loop trains."""
    data = DigitsDataModule()
    split, test = data.split("train"), data.split("test")
    network = build_network("convnet", in_channels=1, num_classes=10, seed=0).eval().requires_grad_(False)
    network.to(memory_format=torch.channels_last)

    def features(images: Tensor) -> Tensor:
        return extract_features(network, images, torch.device("cpu"), min(len(images), 128))

    def build(seed: int) -> nn.Module:
        return build_network("convnet", in_channels=1, num_classes=10, seed=seed)

    heads = Voters(
        split=split,
        sampling=FixedSize(len(split), m),
        defense=NoiseOnly(0.25, seed=noise_seed(0)),
        build=lambda seed: fresh_head(network.num_features, 10, seed),
        recipe=Recipe(epochs=60, batch_size=1024, learning_rate=0.05, weight_decay=0.01, milestones=[0.5, 0.75]),
        seed=0,
        tested=features(test.images),
        features=features,
        batch_size=128,
        threads=torch.get_num_threads(),
    )
    recipe = Recipe(epochs=15, batch_size=64, learning_rate=0.02, milestones=[0.5, 0.75])
    networks = replace(heads, build=build, recipe=recipe, features=None, tested=test.images)
    return {"heads": (heads, 1000, 20), "convnet": (networks, 16, 8)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--m", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    quiet_lightning()
    record: dict[str, Any] = {"m": given.m, "rounds": given.rounds, "threads": torch.get_num_threads()}
    for name, (voters, many, few) in cases(given.m).items():
        blocks = [range(i, min(i + BLOCK, many)) for i in range(0, many, BLOCK)]
        started = time.perf_counter()
        gathered = [voters.gather(block, Ranks())[0] for block in blocks]
        preparing = time.perf_counter() - started
        ours, loop, floors, halves = [], [], [], []
        voters.vote(range(8), gathered[0].members(range(8)), Ranks())
        for _ in range(given.rounds):
            started = time.perf_counter()
            votes = [voters.vote(block, data, Ranks()) for block, data in zip(blocks, gathered, strict=True)]
            ours.append(many / (time.perf_counter() - started))
            started = time.perf_counter()
            single = ordinary_loop(voters, gathered[0], range(few))
            loop.append(few / (time.perf_counter() - started))
            if voters.features is None:
                floors.append(bare_passes(voters, gathered[0], few))
                halved = replace(voters, recipe=replace(voters.recipe, precision="bfloat16"))
                started = time.perf_counter()
                in_half = halved.vote(blocks[0], gathered[0], Ranks())
                halves.append(len(blocks[0]) / (time.perf_counter() - started))
        ratios = [a / b for a, b in zip(ours, loop, strict=True)]
        record[name] = {
            "models": many,
            "models_of_the_loop": few,
            "models_per_second": [round(x, 2) for x in ours],
            "models_per_second_of_the_loop": [round(x, 3) for x in loop],
            "times_faster": round(median(ratios), 1),
            "times_faster_range": [round(min(ratios), 1), round(max(ratios), 1)],
            "votes_that_agree": round(float((votes[0][:few] == single).mean()), 4),
            "seconds_of_preparing_all": round(preparing, 1),
        }
        if floors:
            bare = {name: median(one[name] for one in floors) for name in floors[0]}
            record[name] |= {
                "bare_passes_per_second": {name: round(value, 2) for name, value in bare.items()},
                "times_faster_at_most": round(
                    median(max(one.values()) / rate for one, rate in zip(floors, loop, strict=True)), 1
                ),
                "models_per_second_in_bfloat16": [round(x, 2) for x in halves],
                "votes_unchanged_by_bfloat16": round(float((in_half == votes[0]).mean()), 4),
            }
        print(name, record[name], flush=True)
    if given.out is not None:
        write_json(given.out, record | provenance("cpu", 1))


if __name__ == "__main__":
    main()
