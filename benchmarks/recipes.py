"""What a training recipe costs over plain training, for many victims in one ensemble, all in one run.

On digits; every recipe trains the same members of a small network for as many epochs. Turns alternate, so that other work on
the machine slows all of them.

    python benchmarks/recipes.py --out docs/records/recipes.json
"""

import argparse
import time
from pathlib import Path
from statistics import median

import torch
from torch import nn

from poison_and_defend.core.files import write_json
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.datamodules import DigitsDataModule
from poison_and_defend.defenses import (
    DPSGD,
    Adversarial,
    AdversarialPoisoning,
    CutMix,
    Cutout,
    Epic,
    Friends,
    GradientShaping,
    MaxUp,
    Mixup,
    Plain,
    Training,
)
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.reports.provenance import provenance
from poison_and_defend.training.launch import quiet_lightning
from poison_and_defend.training.members import Fit, fit_members

RECIPES: dict[str, Training] = {
    "plain": Plain(),
    "mixup": Mixup(),
    "adversarial, 7 steps": Adversarial("8/255", steps=7),
    "adversarial poisoning, 5 steps": AdversarialPoisoning(),
    "cutmix": CutMix(),
    "cutout": Cutout(),
    "dp_sgd": DPSGD(),
    "gradient_shaping": GradientShaping(),
    "maxup, from the first epoch": MaxUp(warmup=0),
    "epic, every second epoch": Epic(every=2, start=0),
    # Once, however many epochs there are.
    "friends, in 8 epochs": Friends(warmup=5),
}


def train(network: str, defense: Training, members: int, epochs: int, block: int) -> float:
    """Seconds that training ``members`` members takes, ``block`` of them in one forward and backward pass."""
    split = DigitsDataModule().split("train")

    def build(seed: int) -> nn.Module:
        return build_network(network, in_channels=1, num_classes=10, seed=seed)

    data = EnsembleData(split.images, split.labels, torch.arange(len(split)).expand(members, -1))
    fit = Fit(per_block=block, threads=torch.get_num_threads(), defense=defense)
    started = time.perf_counter()
    fit_members(build, list(range(members)), data, Recipe(epochs=epochs), Ranks(), fit)
    return time.perf_counter() - started


def main() -> None:
    """Measure, print and, if asked, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="patchnet")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    quiet_lightning()
    # What runs first pays for kernels being chosen.
    train(given.network, Plain(), 1, 1, 1)
    seconds: dict[str, list[float]] = {name: [] for name in RECIPES}
    for _ in range(given.repeats):
        for name, defense in RECIPES.items():
            seconds[name].append(round(train(given.network, defense, given.members, given.epochs, given.members), 3))
    costs = {name: round(median(own) / median(seconds["plain"]), 2) for name, own in seconds.items()}
    for name, cost in costs.items():
        print(f"{name}: {median(seconds[name]):.1f} s, {cost:.2f} times plain training")
    if given.out is not None:
        record = {"network": given.network, "members": given.members, "epochs": given.epochs, "seconds": seconds}
        write_json(given.out, record | {"times_plain": costs, **provenance("cpu", 1)})


if __name__ == "__main__":
    main()
