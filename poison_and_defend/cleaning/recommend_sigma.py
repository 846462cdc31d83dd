"""The command `recommend-sigma`: how much noise a set of images bears, from a sample of it."""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import make_folder, write_json
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.progress import StoreProgress
from poison_and_defend.defenses.rewriters.diffusion import Diffusion
from poison_and_defend.diffusion.denoiser import load_denoiser
from poison_and_defend.diffusion.find_denoiser import find_denoiser
from poison_and_defend.diffusion.noise_level import parse_sigma, refuse_ruinous
from poison_and_defend.images.arrays import Split, make_split, read_arrays
from poison_and_defend.images.listing import Rules, iterate_images
from poison_and_defend.images.pictures import fit_square, to_array, to_picture
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.check import check_network
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.reports.border.cells import Map
from poison_and_defend.reports.border.holds import FILE, holds_against, print_holds, read_map
from poison_and_defend.reports.provenance import provenance
from poison_and_defend.reports.sigma_verdicts import Sample, by_estimate, describe, describe_verdict, judge, recommended
from poison_and_defend.sanitizing.tiled import Group, TiledDefense
from poison_and_defend.storage.folder_source import FolderSource
from poison_and_defend.training.checkpoints import load_classifier
from poison_and_defend.training.members import Fit, fit_members

_BATCH = 64


@dataclass(frozen=True)
class Labelled:
    """The images and their classes.

    Args:
        root: Folder of images, one sub-folder a class; or an ``.npz`` of ``images`` and ``labels``.
        follow_links: Whether symbolic links may lead out of the folder.
    """

    root: str
    follow_links: bool = False


@dataclass(frozen=True)
class RecommendTask:
    """Find the largest sigma that a classifier bears.

    Without a classifier, small networks are trained on half of the sample, sanitized with each sigma, and tested on the other
    half as it is: what a defended training will be like. With one, it reads the sample before and after.

    Args:
        data: The images and their classes.
        denoiser: A name (``digits``, ``mnist``, ``cifar10``), a diffusers folder, or ``hf:OWNER/NAME`` of the Hugging Face Hub.
        sigmas: Noise levels that are tried, in [0, 1] units, numbers or fractions such as 25/255.
        max_drop: How much accuracy may be lost, as a share: .02 is two points.
        sample: How many images to measure on, spread evenly over the set.
        size: Height and width that images are scaled to for the classifier; by default the denoiser's.
        classifier: Checkpoint of a ``ClassifierModule`` to measure with, instead of training networks.
        network: The network that is trained: a short name, ``timm:NAME``, ``torchvision:NAME``, ``hf:ID`` or the path of a
            class.
        recipe: How the networks are trained.
        repeats: How many networks are trained for each sigma, with other seeds, which are those of every sigma.
        seed: Seeds the noise and the networks.
        border: Map of which budgets each sigma holds against, a ``border.json`` of the command ``border``; by default that of
            the denoiser, if one lies beside its weights.
        out: JSON file for the result; optional.
    """

    data: Labelled
    denoiser: str = "digits"
    sigmas: list[float | str] = field(default_factory=lambda: [0.05, 0.1, 0.15, 0.25, 0.35, 0.5, 0.75, 1.0])
    max_drop: float = 0.02
    sample: int = 1000
    size: int | None = None
    classifier: str | None = None
    network: Network = field(default_factory=Network)
    recipe: Recipe = field(default_factory=Recipe)
    repeats: int = 3
    seed: int = 0
    border: str | None = None
    out: str | None = None


def run_recommend(task: RecommendTask) -> dict[str, Any]:
    """Measure, print a table and a sentence; returns what goes into the JSON file.

    Raises:
        InputError: If the set, the denoiser or an option cannot be used.
    """
    border = _border(task)
    result = recommend_sigma(task)
    table = Table(title=f"{result['tested']} images tested, {result['how']}", title_justify="left")
    for name in ("sigma", "accuracy", "change", "95 % interval"):
        table.add_column(name, justify="right")
    table.add_column(f"loses at most {task.max_drop:.1%}")
    table.add_row("none", f"{result['accuracy']:.1%}", "", "", "")
    for row in result["sigmas"]:
        interval = f"{row['low']:+.1%} to {row['high']:+.1%}"
        table.add_row(f"{row['sigma']:g}", f"{row['accuracy']:.1%}", f"{row['change']:+.1%}", interval, describe_verdict(row))
        row["holds_against"] = None if border is None else holds_against(border, row["sigma"])
    Console().print(table)
    sample = Sample(result["tested"], result["sample"], result["available"], result["trained_up_to"])
    print(describe(result["sigmas"], task.max_drop, sample))
    if border is None:
        print(f"what a sigma of {task.denoiser} holds against is not measured: poison-and-defend border can (--border)")
    else:
        print_holds(border, [row["sigma"] for row in result["sigmas"]])
    if task.out is not None:
        write_json(Path(task.out), result)
    return result


def recommend_sigma(task: RecommendTask) -> dict[str, Any]:
    """See :class:`RecommendTask`."""
    _check(task)
    model = load_denoiser(task.denoiser)
    # Without a classifier that says otherwise, channels are the denoiser's.
    size = task.size or model.size[0]
    if task.classifier is None:
        # How many classes there are is known once the set is read; a network that fits ten of them fits any.
        check_network(task.network, (model.channels, size, size), 10)
    sigmas = sorted(parse_sigma(sigma) for sigma in task.sigmas)
    # What the denoiser was not trained on is said with the results.
    defenses = {sigma: Diffusion(sigma, model, seed=task.seed) for sigma in sigmas}
    images, labels, available = _sample(task, model.channels)
    variants = {0.0: _scaled(images, size)}
    with StoreProgress("sanitize the sample") as bar:
        for number, (sigma, defense) in enumerate(defenses.items()):
            variants[sigma] = _scaled(_sanitized(images, TiledDefense(defense, batch_size=_BATCH)), size)
            bar(number + 1, len(defenses))
    if task.classifier is None:
        right, how = _trained(task, variants, labels)
    else:
        right, how = _read(task, variants, labels)
    before = right[0.0].tolist()
    rows = [judge(sigma, before, right[sigma].tolist(), task.max_drop, model.trained) for sigma in defenses]
    return {
        "root": task.data.root,
        "denoiser": task.denoiser,
        "how": how,
        "sample": len(labels),
        "tested": len(before),
        "available": available,
        "trained_up_to": model.trained,
        "max_drop": task.max_drop,
        "accuracy": float(right[0.0].mean()),
        "sigmas": rows,
        "recommended": recommended(rows),
        "by_estimate": by_estimate(rows, task.max_drop),
        **provenance("cpu", 1),
    }


def _border(task: RecommendTask) -> Map | None:
    """The map that was named, or that lies beside the denoiser's weights."""
    if task.border is not None:
        return read_map(Path(task.border), "--border")
    _, folder = find_denoiser(task.denoiser)
    beside = None if folder is None else folder / FILE
    return read_map(beside, "--denoiser") if beside is not None and beside.exists() else None


def _check(task: RecommendTask) -> None:
    sigmas = [parse_sigma(sigma, "--sigmas") for sigma in task.sigmas]
    for sigma in sigmas:
        refuse_ruinous(sigma, "--sigmas")
    if not sigmas or min(sigmas) <= 0 or len(set(sigmas)) < len(sigmas):
        raise InputError(f"sigmas are {task.sigmas}: name at least one, each once and above 0 (--sigmas)")
    if not 0 < task.max_drop < 1:
        raise InputError(f"max_drop is {task.max_drop:g}: it lies between 0 and 1 (--max_drop)")
    for name, least in (("sample", 20), ("repeats", 1), ("size", 1)):
        value = getattr(task, name)
        if value is not None and value < least:
            raise InputError(f"{name} is {value}: it must be at least {least} (--{name})")
    if task.out is not None:
        make_folder(Path(task.out).absolute().parent, "--out")


def _sample(task: RecommendTask, channels: int) -> tuple[list[np.ndarray], Tensor, int]:
    """Images ``(C, H, W)`` of any sizes and ``(n,)`` labels, and how many there are in the set."""
    root = Path(task.data.root)
    if root.suffix == ".npz":
        images, given = read_arrays(root)
        split: Split = make_split(images, given, int(given.max(initial=0)) + 1, f"{root} (--data.root)")
        if split.images.shape[1] != channels:
            raise InputError(f"the images have {split.images.shape[1]} channels and the denoiser takes {channels} (--denoiser)")
        chosen = _spread(len(split), task.sample)
        return list(split.images[chosen].numpy()), split.labels[chosen], len(split)
    if not root.is_dir():
        raise InputError(f"there is no folder {root} (--data.root)")
    names = list(iterate_images(root, Rules("--data.root", task.data.follow_links)))
    tops = [name.partition("/")[0] if "/" in name else "" for name in names]
    classes = sorted(set(tops))
    if len(classes) < 2:
        raise InputError(f"{root} has {len(classes)} classes: accuracy needs at least two sub-folders of images (--data.root)")
    numbers = {name: number for number, name in enumerate(classes)}
    chosen = _spread(len(names), task.sample)
    source = FolderSource(root, channels, None, Rules("--data.root", task.data.follow_links))
    with ThreadPoolExecutor() as pool:
        items = list(pool.map(lambda row: source.read_file(row, names[row]), chosen.tolist()))
    kept = [item for item in items if item.pixels is not None]
    labels = torch.tensor([numbers[tops[item.row]] for item in kept])
    return [np.ascontiguousarray(item.pixels) for item in kept], labels, len(names)


def _spread(count: int, wanted: int) -> Tensor:
    return torch.linspace(0, count - 1, min(count, wanted)).round().long().unique()


def _sanitized(images: list[np.ndarray], tiled: TiledDefense) -> list[np.ndarray]:
    results: dict[int, np.ndarray] = {}
    by_shape: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, image in enumerate(images):
        by_shape[image.shape].append(row)
    for rows in by_shape.values():
        for part in torch.tensor(rows).split(_BATCH):
            group = Group(torch.from_numpy(np.stack([images[row] for row in part.tolist()])), part)
            clean, sound = tiled([group])[0]
            if not sound.all():
                raise InputError("the denoiser's output holds values that are not finite: another one is needed (--denoiser)")
            results.update(zip(part.tolist(), clean.numpy(), strict=True))
    return [results[row] for row in range(len(images))]


def _scaled(images: list[np.ndarray], size: int) -> Tensor:
    return torch.from_numpy(np.stack([to_array(fit_square(to_picture(image), size)) for image in images]))


def _trained(task: RecommendTask, variants: dict[float, Tensor], labels: Tensor) -> tuple[dict[float, np.ndarray], str]:
    """For each sigma, the share of networks that read each image of the second half right."""
    train, test = _halves(labels)
    channels, classes = variants[0.0].shape[1], int(labels.max()) + 1
    pixels = variants[0.0][train].float() / 255
    mean, std = pixels.mean((0, 2, 3)).tolist(), pixels.std((0, 2, 3)).clamp_min(1e-3).tolist()

    def build(seed: int) -> Any:
        return build_network(task.network, in_channels=channels, num_classes=classes, mean=mean, std=std, seed=seed)

    sigmas = list(variants)
    seeds = [task.seed + repeat for _ in sigmas for repeat in range(task.repeats)]
    rows = torch.arange(len(sigmas)).repeat_interleave(task.repeats)[:, None] * len(train) + torch.arange(len(train))
    pool = torch.cat([variants[sigma][train] for sigma in sigmas])
    data = EnsembleData(pool, labels[train].repeat(len(sigmas)), rows)
    text = f"train {len(seeds)} networks on {len(train)} images"
    states = fit_members(build, seeds, data, task.recipe, Ranks(), Fit(per_block=len(seeds), threads=1, text=text, fast=True))
    tested = variants[0.0][test].float() / 255
    right: dict[float, np.ndarray] = {}
    for place, sigma in enumerate(sigmas):
        found = []
        for member in range(place * task.repeats, (place + 1) * task.repeats):
            network = build(0)
            network.load_state_dict(states[member])
            network.eval()
            with torch.no_grad():
                found.append(torch.cat([network(batch).argmax(1) for batch in tested.split(256)]) == labels[test])
        right[sigma] = torch.stack(found).float().mean(0).numpy()
    return right, f"{task.repeats} {task.network.build}s for each sigma, trained on {len(train)} sanitized images"


def _halves(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Every other image of each class."""
    order = torch.argsort(labels, stable=True)
    return order[0::2].sort().values, order[1::2].sort().values


def _read(task: RecommendTask, variants: dict[float, Tensor], labels: Tensor) -> tuple[dict[float, np.ndarray], str]:
    """Whether the classifier reads each image right."""
    channels, classes = variants[0.0].shape[1], int(labels.max()) + 1
    classifier = load_classifier(Path(str(task.classifier)), channels, classes, "--classifier")
    right = {}
    with torch.no_grad():
        for sigma, images in variants.items():
            found = torch.cat([classifier(batch).argmax(1) for batch in images.split(256)])
            right[sigma] = (found == labels).float().numpy()
    return right, "read by the given classifier"
