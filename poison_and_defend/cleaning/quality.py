"""The command `quality`: what sanitizing changed about a set of images."""

import heapq
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poison_and_defend.cleaning.set_pairs import Pair, SetPairs
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import make_folder, write_bytes, write_json
from poison_and_defend.core.progress import StoreProgress
from poison_and_defend.images.pictures import fit_square, to_array, to_picture
from poison_and_defend.lightning_modules.classifier import ClassifierModule
from poison_and_defend.reports.image_quality import before_and_after, quality_page, similarity, summarize
from poison_and_defend.reports.intervals import paired_change
from poison_and_defend.training.checkpoints import load_classifier

_SHOWN = 12
_THUMB = 64


@dataclass(frozen=True)
class Originals:
    """What it was made from.

    Args:
        root: Folder or ``.npz`` that the set was made from.
    """

    root: str


@dataclass(frozen=True)
class QualityTask:
    """Compare a sanitized set with what it was made from.

    Args:
        sanitized: Folder or ``.npz`` that `sanitize` wrote.
        data: What it was made from.
        out: Folder for ``quality.json`` and ``quality.html``; by default the sanitized set's name with ``.quality``.
        sample: How many images to compare, spread evenly over the set; by default all.
        classifier: Checkpoint of a ``ClassifierModule`` whose classes are the set's in order; its accuracy is measured on both.
        size: Height and width of the classifier's images; by default that of the first image.
    """

    sanitized: str
    data: Originals
    out: str | None = None
    sample: int | None = None
    classifier: str | None = None
    size: int | None = None


def run_quality(task: QualityTask) -> Path:
    """Write numbers and page, say where.

    Raises:
        InputError: If a set cannot be read, or the classifier does not fit.
    """
    sanitized = Path(task.sanitized)
    pairs = SetPairs(sanitized, Path(task.data.root), task.sample)
    out = Path(task.out) if task.out else sanitized.with_name(f"{sanitized.name}.quality")
    if sanitized.resolve() in (out.resolve(), *out.resolve().parents):
        raise InputError(f"{out} lies in the sanitized set: choose a place outside (--out)")
    make_folder(out, "--out")
    classifier = None
    if task.classifier is not None:
        classes = max(pairs.class_numbers().values()) + 1
        classifier = load_classifier(Path(task.classifier), pairs.manifest["settings"]["channels"], classes, "--classifier")
    quality, sheets = measure_quality(pairs, classifier, task.size)
    write_json(out / "quality.json", quality)
    write_bytes(out / "quality.html", quality_page(quality, sheets).encode(errors="replace"))
    last = quality["classes"][-1]
    # Equal images have no PSNR, small ones no SSIM.
    psnr, ssim = ("none" if last[key] is None else format(last[key], form) for key, form in (("psnr", ".1f"), ("ssim", ".3f")))
    print(f"{last['images']} images: PSNR {psnr} dB on average, SSIM {ssim}")
    if quality["accuracy"] is not None:
        accuracy = quality["accuracy"]
        print(f"the classifier reads {accuracy['before']:.1%} right before, {accuracy['after']:.1%} after")
    print(f"pictures and the change of every class: {out / 'quality.html'}")
    return out


class _Most:
    """The images changed most, and the first of every class."""

    def __init__(self) -> None:
        self.worst: list[tuple[float, int, Pair]] = []
        self.first: dict[str, Pair] = {}

    def add(self, pair: Pair, psnr: float) -> None:
        self.first.setdefault(pair.group, pair)
        entry = (-psnr, pair.record.row, pair)
        if len(self.worst) < _SHOWN:
            heapq.heappush(self.worst, entry)
        else:
            heapq.heappushpop(self.worst, entry)

    def changed_most(self) -> list[tuple[float, Pair]]:
        return [(-entry[0], entry[2]) for entry in sorted(self.worst, key=lambda entry: (-entry[0], entry[1]))]


def measure_quality(
    pairs: SetPairs, classifier: ClassifierModule | None, size: int | None
) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """Numbers and contact sheets.

    Args:
        pairs: What is compared.
        classifier: Whose accuracy is measured on both sets, with their classes in order; None for no accuracy.
        size: Height and width of the classifier's images; None for that of the first image.

    Returns:
        What goes into ``quality.json``, and caption and figure of every sheet.
    """
    groups: list[str] = []
    psnrs: list[float] = []
    ssims: list[float] = []
    right: list[tuple[bool, bool]] = []
    most = _Most()
    numbers = pairs.class_numbers()
    with StoreProgress("compare") as bar:
        for part in pairs:
            psnr, ssim = _similarities(part)
            groups += [pair.group for pair in part]
            psnrs += psnr.tolist()
            ssims += ssim.tolist()
            for pair, value in zip(part, psnr.tolist(), strict=True):
                most.add(pair, value)
            if classifier is not None:
                size = size or part[0].after.shape[1]
                right += _classify(classifier, part, numbers, size)
            bar(len(groups), len(pairs))
    worst = most.changed_most()
    quality = {
        "sanitized_set": str(pairs.sanitized),
        "settings": pairs.manifest["settings"],
        "sanitized": pairs.manifest["sanitized"],
        "measured": len(groups),
        "classes": summarize(groups, np.array(psnrs), np.array(ssims)),
        "accuracy": paired_change(right) if right else None,
        "changed_most": [{"row": pair.record.row, "file": pair.record.file, "psnr": round(value, 3)} for value, pair in worst],
        "not_sanitized": pairs.manifest["not_sanitized"],
    }
    firsts = [most.first[name] for name in sorted(most.first)][:_SHOWN]
    sheets = [
        ("The first image of each class", _sheet(firsts, "one image a class")),
        ("The images that changed most", _sheet([pair for _, pair in worst], "changed most, from the left")),
    ]
    return quality, sheets


def _similarities(part: list[Pair]) -> tuple[Tensor, Tensor]:
    by_shape: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, pair in enumerate(part):
        by_shape[pair.before.shape].append(place)
    psnr, ssim = torch.empty(len(part)), torch.empty(len(part))
    for places in by_shape.values():
        before = torch.from_numpy(np.stack([part[place].before for place in places]))
        after = torch.from_numpy(np.stack([part[place].after for place in places]))
        psnr[places], ssim[places] = similarity(before, after)
    return psnr, ssim


@torch.no_grad()
def _classify(classifier: ClassifierModule, part: list[Pair], numbers: dict[str, int], size: int) -> list[tuple[bool, bool]]:
    """Whether each image is read right before and after."""
    labels = torch.tensor([numbers[pair.group] for pair in part])
    results = []
    for images in ([pair.before for pair in part], [pair.after for pair in part]):
        squares = np.stack([to_array(fit_square(to_picture(image), size)) for image in images])
        results.append((classifier(torch.from_numpy(squares)).argmax(1) == labels).tolist())
    return list(zip(*results, strict=True))


def _sheet(pairs: list[Pair], title: str) -> Any:
    def thumbs(images: list[np.ndarray]) -> Tensor:
        size = min(_THUMB, max(max(image.shape[1:]) for image in images))
        return torch.from_numpy(np.stack([to_array(fit_square(to_picture(image), size)) for image in images]))

    return before_and_after(thumbs([p.before for p in pairs]), thumbs([p.after for p in pairs]), title)
