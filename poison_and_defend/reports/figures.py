"""Pictures of an experiment, as PNG bytes or PIL images; nothing is trained or read here."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.reports.labels import several, success_text, tested_label
from poison_and_defend.reports.summary import Summary

matplotlib.use("Agg")

AMPLIFICATION = 10


def to_png(figure: Figure) -> bytes:
    """Render a figure."""
    with io.BytesIO() as buffer:
        figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        return buffer.getvalue()


def tile(rows: Sequence[Tensor], scale: int = 2, gap: int = 2) -> Image.Image:
    """Images in rows.

    Args:
        rows: Each ``(n, C, H, W)`` uint8, all of one shape.
        scale: Whole-number enlargement, nearest neighbour: pixels are what matters here.
        gap: White pixels between images.
    """
    grid = torch.stack(list(rows))
    padded = torch.nn.functional.pad(grid, (0, gap, 0, gap), value=255)
    sheet = padded.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    pixels = sheet.expand(-1, -1, 3).contiguous().numpy() if sheet.shape[2] == 1 else sheet.contiguous().numpy()
    image = Image.fromarray(pixels)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def amplified(images: Tensor, bases: Tensor) -> Tensor:
    """Difference times ten around mid-grey, uint8."""
    return ((images.float() - bases.float()) * AMPLIFICATION + 127.5).clamp(0, 255).to(torch.uint8)


def contact_sheet(poisons: PoisonSet, tested: Tensor | None = None, columns: int = 12, scale: int = 2) -> Image.Image:
    """Base, poison and amplified difference, a column each, and below them what the attack is tested on.

    Args:
        tested: ``(m, C, H, W)`` uint8, targets or triggered test images; None for the first target, with the trigger if
            there is one.
    """
    return tile([images for _, images in _sheet_rows(poisons, tested, columns)], scale)


def labelled_sheet(poisons: PoisonSet, tested: Tensor | None = None, columns: int = 12) -> Figure:
    """:func:`contact_sheet` with a label at every row."""
    setup = poisons.setup
    misread = "other classes" if poisons.goal == "others" else f"class {setup.target_label}"
    title = f"setup {setup.index}: {misread} to be read as {setup.adversarial_label}"
    return panel(_sheet_rows(poisons, tested, columns), title)


def _sheet_rows(poisons: PoisonSet, tested: Tensor | None, columns: int) -> list[tuple[str, Tensor]]:
    bases, images = poisons.bases[:columns], poisons.images[:columns]
    if tested is None:
        index = torch.tensor([poisons.setup.target_index])
        tested = poisons.target[None] if poisons.trigger is None else poisons.trigger.stamp(poisons.target[None], index)
    return [
        ("base", bases),
        ("poison", images),
        (f"{AMPLIFICATION} x difference", amplified(images, bases)),
        (tested_label(poisons.goal), _filled(tested, len(images))),
    ]


def _filled(images: Tensor, count: int) -> Tensor:
    """The first ``count`` images, white ones at the end where there are fewer."""
    blank = images.new_full((max(0, count - len(images)), *images.shape[1:]), 255)
    return torch.cat([images[:count], blank])


def panel(stages: Sequence[tuple[str, Tensor]], title: str) -> Figure:
    """Labelled rows of the same images at successive stages, such as base, poison, noised, denoised.

    Args:
        stages: Label and ``(n, C, H, W)`` uint8 of each row.
    """
    figure = Figure(figsize=(0.75 * len(stages[0][1]) + 1.4, 0.78 * len(stages) + 0.5))
    axes = figure.subplots(1, 1)
    axes.imshow(np.asarray(tile([images for _, images in stages], scale=1)))
    height = stages[0][1].shape[2] + 2
    axes.set_yticks([height * i + height / 2 for i in range(len(stages))], [label for label, _ in stages])
    axes.set_xticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    axes.set_title(title, fontsize=10, loc="left")
    return figure


def comparison(rows: Sequence[Summary], title: str) -> Figure:
    """Attack success with intervals beside clean accuracy, one bar a defence, of every victim."""
    labels = [row.label for row in rows]
    if several(row.victim for row in rows):
        labels = [f"{row.victim}, {label}" for row, label in zip(rows, labels, strict=True)]
    places = np.arange(len(rows))
    figure = Figure(figsize=(10.5, 0.42 * len(rows) + 1.2), layout="constrained")
    success, accuracy = figure.subplots(1, 2, sharey=True)
    draw_success(success, places, rows, color="#b2433a", height=0.8)
    for place, row in zip(places, rows, strict=True):
        # Beside the axes, where neither bar nor whisker can run into it.
        success.text(102, place, success_text(row).replace(": ", "\n"), va="center", fontsize=8)
    success.set(xlim=(0, 100), xlabel="attack success, % (95 % interval)", yticks=places, yticklabels=labels)
    success.invert_yaxis()
    accuracies = [100 * row.clean_accuracy for row in rows]
    accuracy.barh(places, accuracies, color="#3a6ea5")
    for place, value in zip(places, accuracies, strict=True):
        accuracy.text(value + 0.5, place, f"{value:.1f}", va="center", fontsize=9)
    accuracy.set(xlim=(0, 112), xlabel="accuracy on clean test images, %", xticks=range(0, 101, 20))
    for axes in (success, accuracy):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    return figure


def draw_success(axes: Any, places: np.ndarray, rows: Sequence[Summary], **style: Any) -> None:
    """Bars of attack success in per cent with their intervals."""
    rates = np.array([100 * row.success_rate for row in rows])
    low, high = np.array([100 * row.ci_low for row in rows]), np.array([100 * row.ci_high for row in rows])
    # Rounding may put a bound a hair on the wrong side of its rate, which Matplotlib refuses.
    errors = np.maximum([rates - low, high - rates], 0)
    axes.barh(places, rates, xerr=errors, error_kw={"ecolor": "#444444", "capsize": 2, "elinewidth": 1}, **style)
