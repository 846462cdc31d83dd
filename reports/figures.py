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

from attacks.poison_set import PoisonSet

matplotlib.use("Agg")

_NAMES = {
    "none": "undefended",
    "noise_only": "noise only",
    "denoise_only": "denoise only",
    "jpeg": "JPEG",
    "diffusion": "noise + denoise",
}
AMPLIFICATION = 10


def defense_label(name: str) -> str:
    """A defence's name as a reader expects it."""
    return _NAMES.get(name, name)


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


def contact_sheet(poisons: PoisonSet, columns: int = 12, scale: int = 2) -> Image.Image:
    """Base, poison and amplified difference, a column each."""
    bases, images = poisons.bases[:columns], poisons.images[:columns]
    return tile([bases, images, amplified(images, bases)], scale)


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


def comparison(rows: Sequence[dict[str, Any]], title: str) -> Figure:
    """Attack success with intervals beside clean accuracy, one bar a defence."""
    labels = [defense_label(row["defense"]) for row in rows]
    places = np.arange(len(rows))
    figure = Figure(figsize=(9, 0.5 * len(rows) + 1.6))
    success, accuracy = figure.subplots(1, 2, sharey=True)
    rates = [100 * row["success_rate"] for row in rows]
    errors = [
        [100 * (row["success_rate"] - row["ci_low"]) for row in rows],
        [100 * (row["ci_high"] - row["success_rate"]) for row in rows],
    ]
    success.barh(places, rates, xerr=np.maximum(errors, 0), color="#b2433a", ecolor="#444444", capsize=3)
    for place, row in zip(places, rows, strict=True):
        # Beyond the interval's whisker, or inside the bar where no room is left.
        inside = row["ci_high"] > 0.85
        success.text(
            3 if inside else 100 * row["ci_high"] + 2,
            place,
            f"{row['successes']} of {row['n']}",
            va="center",
            fontsize=9,
            color="white" if inside and row["success_rate"] > 0.2 else "black",
        )
    success.set(xlim=(0, 100), xlabel="attack success, % (95 % interval)", yticks=places, yticklabels=labels)
    success.invert_yaxis()
    accuracies = [100 * row["clean_accuracy"] for row in rows]
    accuracy.barh(places, accuracies, color="#3a6ea5")
    for place, value in zip(places, accuracies, strict=True):
        accuracy.text(value + 0.5, place, f"{value:.1f}", va="center", fontsize=9)
    accuracy.set(xlim=(0, 112), xlabel="accuracy on clean test images, %", xticks=range(0, 101, 20))
    for axes in (success, accuracy):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    figure.subplots_adjust(top=0.86 if len(rows) > 2 else 0.75, wspace=0.08)
    return figure
