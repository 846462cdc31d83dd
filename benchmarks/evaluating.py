"""What it costs to evaluate transfer setups, against extracting all features again in every epoch as the public benchmark does.

Both train linear heads for the same epochs on the same images with the same frozen network, in one run: the reference
trains one setup; ours trains one, then many, with the features of shared rows extracted once (in several augmented views) and
those of each setup's own poison rows on top.

    python benchmarks/evaluating.py --out docs/records/evaluating.json
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from poison_and_defend.attacks.crafting.augmentation import augment, draw_augmentation
from poison_and_defend.core.files import write_json
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.streams import epoch_order, step_generator
from poison_and_defend.lightning_modules.classifier import fresh_head
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.reports.provenance import provenance
from poison_and_defend.training.features import extract_features
from poison_and_defend.training.members import Fit, fit_members

SHIFT = 0.125


def train_again_and_again(model: Classifier, images: Tensor, labels: Tensor, recipe: Recipe) -> None:
    """One head; every step augments its batch and extracts its features."""
    head = fresh_head(model.num_features, 10, 0)
    optimizer = recipe.build_optimizer(head.parameters())
    scheduler = recipe.build_scheduler(optimizer)
    step = 0
    for epoch in range(recipe.epochs):
        for rows in epoch_order(len(images), 0, epoch).split(recipe.batch_size):
            views = draw_augmentation((len(rows),), step_generator(0, step), flip=True)
            with torch.no_grad():
                features = model.features(augment(images[rows].float() / 255, views, SHIFT))
            optimizer.zero_grad()
            functional.cross_entropy(head(features), labels[rows]).backward()
            optimizer.step()
            step += 1
        scheduler.step()


def train_shared(
    model: Classifier, clean: Tensor, labels: Tensor, poisons: Tensor, setups: int, views: int, recipe: Recipe
) -> None:
    """One head per setup; features of the shared rows once per view, and of every setup's poisons."""
    count = len(poisons) // setups
    pool, ranks = torch.cat([clean, poisons]), Ranks()

    def view(number: int) -> Tensor:
        drawn = draw_augmentation((len(pool),), step_generator(0, number), flip=True)
        return extract_features(model, pool, ranks.device, transform=lambda images, rows: augment(images, drawn[rows], SHIFT))

    features = torch.cat([view(number) for number in range(views)])
    rows = torch.arange(len(clean)).repeat(setups, 1)
    rows[:, -count:] = len(clean) + torch.arange(setups * count).view(setups, count)
    data = EnsembleData(features, torch.cat([labels, labels[-count:].repeat(setups)]), rows, views)
    fit_members(
        lambda seed: fresh_head(model.num_features, 10, seed),
        list(range(setups)),
        data,
        recipe,
        ranks,
        Fit(per_block=setups, threads=torch.get_num_threads()),
    )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18_slim")
    parser.add_argument("--setups", type=int, default=20)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--train-size", type=int, default=2500)
    parser.add_argument("--poisons", type=int, default=25)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    model = build_network(given.network, in_channels=3, num_classes=10).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (given.train_size, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (given.train_size,), generator=generator)
    poisons = images[-given.poisons :].repeat(given.setups, 1, 1, 1)
    recipe = Recipe(epochs=given.epochs, batch_size=128, learning_rate=0.01, milestones=[0.75])

    def shared(setups: int) -> None:
        train_shared(model, images, labels, poisons[: setups * given.poisons], setups, given.views, recipe)

    seconds = {}
    for name, step in (
        ("features in every epoch, one setup", lambda: train_again_and_again(model, images, labels, recipe)),
        ("shared features, one setup", lambda: shared(1)),
        ("shared features, many setups", lambda: shared(given.setups)),
    ):
        started = time.perf_counter()
        step()
        seconds[name] = round(time.perf_counter() - started, 2)
        print(f"{name}: {seconds[name]} s", flush=True)
    reference, one, many = seconds.values()
    record = {
        "backbone": given.network,
        "setups": given.setups,
        "views": given.views,
        "epochs": given.epochs,
        "train_size": given.train_size,
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "times_faster_one_setup": round(reference / one, 1),
        "times_faster_per_setup_of_many": round(reference * given.setups / many, 1),
        **provenance("cpu", 1),
    }
    print(f"one setup: {reference / one:.1f} times faster; of {given.setups}: {reference * given.setups / many:.1f} times")
    if given.out is not None:
        write_json(given.out, record)


if __name__ == "__main__":
    main()
