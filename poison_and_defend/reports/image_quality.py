"""How much sanitizing changed images: numbers, pictures and a page."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from poison_and_defend.reports.figures import amplified, panel, to_png
from poison_and_defend.reports.markup import Cell, document, picture, table

# SSIM looks at windows of 11 x 11.
_SMALLEST = 11


def similarity(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """PSNR in dB and SSIM of each image, as torchmetrics computes them.

    Args:
        before: ``(n, C, H, W)`` uint8.
        after: ``(n, C, H, W)`` uint8, of the shape of ``before``.

    Returns:
        Two ``(n,)`` float tensors; PSNR is infinite for equal images, SSIM is NaN below 11 x 11 pixels.
    """
    one, two = before.float() / 255, after.float() / 255
    psnr = peak_signal_noise_ratio(two, one, data_range=1.0, reduction="none", dim=(1, 2, 3))
    if min(before.shape[2:]) < _SMALLEST:
        return psnr, torch.full((len(before),), torch.nan)
    ssim = structural_similarity_index_measure(two, one, data_range=1.0, reduction="none")
    assert isinstance(ssim, Tensor)
    return psnr, ssim


def summarize(groups: Sequence[str], psnr: np.ndarray, ssim: np.ndarray) -> list[dict[str, Any]]:
    """Mean, and range, of each group's images, and of all in the last row.

    Args:
        groups: ``n`` names.
        psnr: ``(n,)``; equal images are left out of its mean.
        ssim: ``(n,)``; images where it is NaN are left out of its mean.
    """
    names = np.array(groups)
    rows = [*((name, names == name) for name in sorted(set(groups), key=_by_number))]
    if len(rows) > 1:
        rows.append(("all", np.ones(len(names), bool)))
    return [
        {
            "class": name,
            "images": int(own.sum()),
            "psnr": _mean(psnr[own]),
            "psnr_least": _least(psnr[own]),
            "ssim": _mean(ssim[own]),
            "ssim_least": _least(ssim[own]),
        }
        for name, own in rows
    ]


def _by_number(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (-1, name)


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return round(float(finite.mean()), 4) if len(finite) else None


def _least(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return round(float(finite.min()), 4) if len(finite) else None


def before_and_after(before: Tensor, after: Tensor, title: str) -> Figure:
    """Contact sheet: images, what became of them, and ten times the difference; ``(n, C, H, W)`` uint8 each."""
    stages = [("before", before), ("after", after), ("10 x difference", amplified(after, before))]
    return panel(stages, title)


def quality_page(quality: dict[str, Any], sheets: Sequence[tuple[str, Figure]]) -> str:
    """One page that opens from disk.

    Args:
        quality: What :func:`poison_and_defend.cleaning.quality.measure_quality` returns.
        sheets: Caption and figure of each contact sheet.
    """
    settings = quality["settings"]
    how = [str(settings["defense"])]
    how += [f"sigma {settings['sigma']:g}"] if "sigma" in settings else []
    lines = [
        [
            Cell(row["class"]),
            Cell(str(row["images"]), "number"),
            *(Cell(_number(row[key], form), "number") for key, form in _COLUMNS),
        ]
        for row in quality["classes"]
    ]
    body = f"<p>{quality['measured']} of {quality['sanitized']} sanitized images were compared ({', '.join(how)}).</p>"
    if settings.get("seed") not in (None, "secret"):
        body += (
            f"<p>The noise has the seed {settings['seed']}, which was given for reproduction (--noise_seed): an attacker who "
            "knew it when the poisons were made could craft them to survive.</p>"
        )
    if quality["accuracy"] is not None:
        accuracy = quality["accuracy"]
        body += (
            f"<p>The classifier reads {accuracy['before']:.1%} of them right before and {accuracy['after']:.1%} after "
            f"(change {accuracy['change']:+.1%}, 95 % interval {accuracy['low']:+.1%} to {accuracy['high']:+.1%}, "
            f"n = {accuracy['n']}).</p>"
        )
    head = ["class", "images", "PSNR, dB", "least", "SSIM", "least"]
    body += table(head, lines)
    body += "".join(picture(caption, to_png(figure)) for caption, figure in sheets)
    if quality["not_sanitized"]:
        body += f"<p>{len(quality['not_sanitized'])} images were not sanitized:</p>"
        cells = [[Cell(str(entry[key])) for key in ("row", "file", "status", "reason")] for entry in quality["not_sanitized"]]
        body += table(["row", "file", "what became of it", "why"], cells)
    return document("What sanitizing changed", body, width=80)


_COLUMNS = (("psnr", ".1f"), ("psnr_least", ".1f"), ("ssim", ".3f"), ("ssim_least", ".3f"))


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
