"""Pictures of a certificate: accuracy against the whole set's radius, the map over (k, eps), the planner's trade-off."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from poison_and_defend.reports.certificate.records import Certificate, Certified, Forecast
from poison_and_defend.reports.certificate.usual_budgets import USUAL_BUDGETS

matplotlib.use("Agg")

Arrays = dict[str, NDArray[Any]]


def radius_curves(settings: Sequence[tuple[Certified, Arrays]], title: str) -> Figure:
    """Share of test images that are right and certified, against the l2 norm of the whole set's change.

    Two lines a setting: solid with subsampling accounted for, dashed the paper's bound.
    """
    figure = Figure(figsize=(9.5, 4.6), layout="constrained")
    axes = figure.subplots()
    known = [radius for _, own in settings for key in ("radii", "paper_radii") for radius in own[key] if radius > 0]
    # From a tenth of the median radius of the weakest, so that radii of different orders are seen together.
    start = min([0.1 * float(np.median(own["paper_radii"].clip(0.01))) for _, own in settings] or [0.01])
    for number, (record, arrays) in enumerate(settings):
        for key, style in (("radii", "-"), ("paper_radii", "--")):
            levels = np.sort(arrays[key])
            levels = levels[levels > start]
            if not len(levels):
                continue
            share = 100 / len(arrays[key])
            # An image is certified for changes below its own radius, no longer at it.
            heights = share * np.arange(len(levels), -1, -1)
            places = np.concatenate([[start], levels, levels[-1:]])
            label = record.label if style == "-" else "_"
            axes.step(places, [*heights[:1], *heights], style, where="pre", color=f"C{number}", label=label)
    axes.plot([], [], "--", color="#666666", label="the paper's bound")
    axes.set(
        xscale="log",
        xlabel="R, l2 norm of the change of all training images together ([0, 1] pixels)",
        ylabel="certified accuracy, %",
        ylim=(0, 102),
        xlim=(start, 1.1 * max(known, default=1.0)),
    )
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    return figure


def budget_map(record: Certified, arrays: Arrays, result: Certificate) -> Figure:
    """Certified accuracy over number of poisons and budget of each, with the attacks' usual budgets marked."""
    linf = result.norm == "linf"
    scale = 255 / np.sqrt(np.prod(result.image_shape)) if linf else 1.0
    ks, eps, shares = arrays["map_k"], arrays["map_radius"] * scale, 100 * arrays["map_certified"].T
    figure = Figure(figsize=(8.5, 5.2), layout="constrained")
    axes = figure.subplots()
    mesh = axes.pcolormesh(_edges(ks), _edges(eps), shares, cmap="viridis", vmin=0, vmax=100)
    if shares.min() < 90 and shares.max() > 50 and min(shares.shape) > 1:
        lines = axes.contour(ks, eps, shares, levels=[50, 75, 90, 95], colors="white", linewidths=0.9)
        axes.clabel(lines, fmt="%d %%", fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="k, number of poisons")
    axes.set_ylabel("eps of each, linf in 1/255" if linf else "eps of each, l2")
    if linf:
        axes.set_yticks([1, 2, 4, 8, 16, 32, 64, 128], ["1", "2", "4", "8", "16", "32", "64", "128"])
        axes.minorticks_off()
        for budget in USUAL_BUDGETS:
            place = max(1.0, budget.share * record.n), budget.eps * 255
            axes.plot(*place, "X", color="#e8452c", markeredgecolor="white", markersize=11)
            box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.5}
            axes.annotate(budget.attacks, place, xytext=(9, -3), textcoords="offset points", fontsize=8, bbox=box)
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000) if ks[0] <= k <= ks[-1]]
    axes.set_xticks(ticks, [f"{k:,}" for k in ticks])
    figure.colorbar(mesh, label="certified accuracy, %")
    figure.suptitle(f"{record.label}, {record.models} models", x=0.02, ha="left", fontsize=11)
    return figure


def trade_off(forecasts: Sequence[Forecast], goal: dict[str, Any]) -> Figure:
    """What pilots foretell: certified accuracy at the goal against the number of models; a line a setting."""
    figure = Figure(figsize=(8.5, 4.6), layout="constrained")
    axes = figure.subplots()
    for record in forecasts:
        timing = "" if record.seconds_per_model is None else f", {record.seconds_per_model:.2g} s a model"
        axes.plot(record.models, [100 * e for e in record.expected], "o-", label=f"{record.label}{timing}")
    axes.set(xscale="log", xlabel="N, number of models", ylabel="expected certified accuracy, %", ylim=(0, 102))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    title = f"forecast from {forecasts[0].pilots} pilots a setting, for {goal['k']} poisons of {goal['eps']}"
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    return figure


def _edges(centres: NDArray[Any]) -> NDArray[np.float64]:
    """Borders of cells around points that are equally far apart on a logarithmic scale."""
    logs = np.log(np.asarray(centres, np.float64))
    if len(logs) == 1:
        return np.exp(np.array([logs[0] - 0.35, logs[0] + 0.35]))
    middles = (logs[1:] + logs[:-1]) / 2
    edges: NDArray[np.float64] = np.exp(np.concatenate([[2 * logs[0] - middles[0]], middles, [2 * logs[-1] - middles[-1]]]))
    return edges
