"""Whether our success decisions are those of the public benchmark's rule, written from its description, apart from our code.

The rule (Schwarzschild et al., "Just How Toxic is Data Poisoning?", ICML 2021): a victim trains on N images, of every class the
first N / K of the data set that no poison started from, less the poisons in the poisons' class, and then the poisons. Every
epoch crops, mirrors and, in transfer learning, extracts features anew. The final model reads the target, with the patch if it
has one; the attack has succeeded if it answers the poisons' class. Nothing is shared with our evaluation but networks' layers.

Poisons are read as ``export-poisons --format npz`` wrote them, decisions from the run's ``results.jsonl``. Training is random,
so every setup has several victims, and one that they do not agree on has no decision to compare.

    poison-and-defend export-poisons --run runs/NAME --out exported --format npz
    python benchmarks/benchmark_rule.py --run runs/NAME --poisons exported --train train.npz --extractor MODEL.safetensors
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from poison_and_defend.core.files import write_json
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.reports.provenance import provenance

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
CLASSES, PADDING = 10, 4


@dataclass(frozen=True)
class Training:
    """The benchmark's for a track, unless a run of ours had another.

    Attributes:
        drops: Epochs before which the rate falls tenfold.
    """

    epochs: int
    rate: float
    drops: tuple[int, ...]
    decay: float
    batch: int
    augmented: bool
    nesterov: bool


def of_the_run(run: Path) -> tuple[Training, dict[str, Any]]:
    """How the run's victims were trained, and its settings."""
    settings = json.loads((run / "settings.json").read_text())
    recipe = settings["victim_recipe"]
    drops = tuple(int(share * recipe["epochs"]) for share in recipe["milestones"])
    augmented = recipe["max_shift"] > 0
    rest = recipe["weight_decay"], recipe["batch_size"], augmented, recipe["nesterov"]
    return Training(recipe["epochs"], recipe["learning_rate"], drops, *rest), settings


def training_set(images: Tensor, labels: Tensor, found: dict[str, Any], size: int | None) -> tuple[Tensor, Tensor]:
    """What a victim trains on; without ``size`` the whole set, in which poisons stand in their bases' places."""
    poisons = torch.from_numpy(found["poisons"]).permute(0, 3, 1, 2)
    bases, label = torch.from_numpy(found["base_indices"]), int(found["labels"][0])
    free = torch.ones(len(labels), dtype=torch.bool)
    free[bases] = False
    rows = []
    for number in range(CLASSES):
        own = (free & (labels == number)).nonzero()[:, 0]
        wanted = len(own) if size is None else size // CLASSES - (len(poisons) if number == label else 0)
        rows.append(own[:wanted])
    kept = torch.cat(rows)
    return torch.cat([images[kept], poisons]), torch.cat([labels[kept], torch.full((len(poisons),), label)])


def cropped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each float image padded by 4 black pixels, cut out at a whole place of its own, half of them mirrored."""
    count, _, height, width = images.shape
    padded = functional.pad(images, (PADDING,) * 4)
    top, left = torch.randint(0, 2 * PADDING + 1, (2, count), generator=generator)
    rows = (top[:, None] + torch.arange(height))[:, None, :, None].to(images.device)
    columns = left[:, None] + torch.arange(width)
    mirrored = torch.rand(count, generator=generator) < 0.5
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)[:, None, None, :].to(images.device)
    each = torch.arange(count, device=images.device)[:, None, None, None]
    channels = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return padded[each, channels, rows, columns]


def answers(
    images: Tensor, labels: Tensor, target: Tensor, how: Training, network: str, extractor: Path | None, seed: int, device: str
) -> int:
    """Train one victim by the rule and let it read the target ``(C, H, W)`` float."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = build_network(network, in_channels=3, num_classes=CLASSES, mean=MEAN, std=STD, seed=seed).to(device)
    head: nn.Module = model
    if extractor is not None:
        weights = {name: value for name, value in load_file(extractor).items() if not name.startswith("head.")}
        model.load_state_dict(weights, strict=False)
        # Frozen, batch normalization too; in front of it a fresh layer.
        model.eval().requires_grad_(False)
        head = nn.Linear(model.num_features, CLASSES).to(device)
    optimizer = torch.optim.SGD(head.parameters(), how.rate, momentum=0.9, weight_decay=how.decay, nesterov=how.nesterov)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(how.drops), 0.1)
    images, labels = images.to(device), labels.to(device)
    for _ in range(how.epochs):
        if extractor is None:
            head.train()
        for rows in torch.randperm(len(images), generator=generator).split(how.batch):
            batch = images[rows.to(device)].float() / 255
            batch = cropped(batch, generator) if how.augmented else batch
            inputs = batch if extractor is None else model.features(batch)
            optimizer.zero_grad()
            functional.cross_entropy(head(inputs), labels[rows.to(device)]).backward()
            optimizer.step()
        schedule.step()
    head.eval()
    with torch.no_grad():
        shown = target[None].to(device)
        return int(head(shown if extractor is None else model.features(shown)).argmax())


def main() -> None:
    """Score, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--poisons", type=Path, required=True)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--train_size", type=int)
    parser.add_argument("--train_limit", type=int)
    parser.add_argument("--extractor", type=Path)
    parser.add_argument("--setups", type=int, default=4)
    parser.add_argument("--victims", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    how, settings = of_the_run(given.run)
    (network,) = settings["victims"]
    results = [json.loads(line) for line in (given.run / "results.jsonl").read_text().splitlines()]
    ours = {line["setup"]: line["predicted"] for line in results if line["defense"] == "none"}
    with np.load(given.train, allow_pickle=False) as arrays:
        images = torch.from_numpy(arrays["images"][: given.train_limit]).permute(0, 3, 1, 2)
        labels = torch.from_numpy(arrays["labels"][: given.train_limit])
    rows = []
    for path in sorted(given.poisons.glob("*.npz"))[: given.setups]:
        with np.load(path, allow_pickle=False) as arrays:
            found = dict(arrays)
        target = torch.from_numpy(found["target"]).permute(2, 0, 1).float() / 255
        if "patch" in found:
            x, y = found["location"]
            size = found["patch"].shape[-1]
            target[:, y : y + size, x : x + size] = torch.from_numpy(found["patch"])
        own = training_set(images, labels, found, given.train_size)
        seeds = range(given.victims)
        read = [answers(*own, target, how, network, given.extractor, seed, given.device) for seed in seeds]
        setup, label = int(path.stem), int(found["labels"][0])
        hits = [answer == label for answer in read]
        row = {"setup": setup, "wanted": label, "read_as": read, "ours_reads_as": ours[setup], "ours": ours[setup] == label}
        row["agree"] = None if len(set(hits)) > 1 else hits[0] == row["ours"]
        rows.append(row)
        print(json.dumps(row), flush=True)
    decided = [row for row in rows if row["agree"] is not None]
    print(f"{sum(row['agree'] for row in decided)} of {len(decided)} setups agree, {len(rows) - len(decided)} are undecided")
    if given.out is not None:
        attack = results[0]["attack"]
        write_json(given.out, {"attack": attack, "network": network, "setups": rows, **provenance(given.device, 1)})


if __name__ == "__main__":
    main()
