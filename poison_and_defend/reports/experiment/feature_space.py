"""Where poisons lie among the classes, as a victim's feature extractor sees them."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

matplotlib.use("Agg")

Features = NDArray[np.floating]
Arm = tuple[str, dict[str, Features]]
"""A label, and the arrays ``base_class``, ``target_class``, ``poisons``, ``targets``, each ``(n, F)``."""

_GROUPS = (
    ("base_class", "base class, clean", "o", "#6fa0d0", 56, 0.6),
    ("target_class", "class of the {tested}, clean", "s", "#a8a8a8", 56, 0.6),
    ("poisons", "poisons (labelled as base class)", "X", "#b2433a", 46, 0.95),
    ("targets", "{tested}", "*", "#f0b429", 170, 1.0),
)
_COLUMNS = 3
_MANY = 100


def project_axes(base_class: Features, target_class: Features) -> Features:
    """The plane that a picture shows.

    A classifier of the two classes cuts the line between their means, which the leading principal component may miss; so
    the first axis is that line, and the second the leading principal component of what is left.

    Returns:
        Orthonormal axes ``(2, F)``.
    """
    both = np.concatenate([base_class, target_class]).astype(np.float64)
    rest = both - both.mean(0)
    line, distance = _class_line(base_class, target_class)
    # Without a line between the means, as of a dead network, both axes are principal components.
    line = line / distance if distance else _components(rest)[0]
    rest -= np.outer(rest @ line, line)
    # The component is orthogonal to the line up to rounding, and not at all where nothing is left.
    axes = np.linalg.qr(np.stack([line, _components(rest)[0]], axis=1))[0].T
    # Which way an axis points is arbitrary: towards the targets, and by its largest entry, so that equal features give equal
    # pictures.
    flips = [axes[0] @ line < 0, axes[1][np.abs(axes[1]).argmax()] < 0]
    return np.where(np.array(flips)[:, None], -axes, axes)


def _class_line(base_class: Features, target_class: Features) -> tuple[Features, float]:
    """From the base class's mean to the target class's, and its length."""
    line = target_class.mean(0, dtype=np.float64) - base_class.mean(0, dtype=np.float64)
    return line, float(np.linalg.norm(line))


def _components(centred: Features) -> Features:
    return np.linalg.svd(centred, full_matrices=False)[2]


def relative_distance(arrays: dict[str, Features], reference: dict[str, Features] | None = None) -> float:
    """Distance from the poisons' mean to the targets' mean in all dimensions, in units of that between the class means.

    Args:
        reference: Arm that gives the unit; by default the same.
    """
    gap = np.linalg.norm(arrays["poisons"].mean(0, dtype=np.float64) - arrays["targets"].mean(0, dtype=np.float64))
    return float(gap / _unit(arrays if reference is None else reference))


def _unit(arrays: dict[str, Features]) -> float:
    return _class_line(*_classes(arrays))[1] or 1.0


def _classes(arrays: dict[str, Features]) -> tuple[Features, Features]:
    return arrays["base_class"], arrays["target_class"]


def feature_space(arms: Sequence[Arm], title: str, shared: bool = True, tested: str = "targets") -> Figure:
    """One panel an arm: both classes, poisons and targets in the plane of :func:`project_axes`.

    Args:
        shared: Whether all arms come from one extractor, so that the first arm's axes and unit serve all; otherwise each
            panel has its own.
        tested: What the targets are called in the legend, such as triggered images.
    """
    columns = min(len(arms), _COLUMNS)
    lines = -(-len(arms) // columns)
    figure = Figure(figsize=(4.2 * columns + 0.6, 3.9 * lines + 1.3), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=shared, sharey=shared).flatten()
    references = [arms[0][1] if shared else arrays for _, arrays in arms]
    # A decomposition takes seconds where features are many: once for all arms if they share it.
    planes = [project_axes(*_classes(reference)) for reference in references[: 1 if shared else None]]
    for number, (axes, (label, arrays)) in enumerate(zip(grid, arms, strict=False)):
        reference, plane = references[number], planes[0 if shared else number]
        for key, name, marker, color, size, alpha in _GROUPS:
            places = (arrays[key] - reference["base_class"].mean(0)) @ plane.T / _unit(reference)
            front = key in ("poisons", "targets")
            style = {"marker": marker, "color": color, "edgecolors": "black" if front else "none", "alpha": alpha}
            # One target is to be found among many poisons, and a few poisons among hundreds of triggered images.
            style |= {"s": size if len(places) <= _MANY else size / 4, "zorder": 3 - len(places) / 1e6 if front else 1}
            axes.scatter(*places.T, linewidths=0.5, label=name.format(tested=tested), **style)
        axes.set_title(label, fontsize=11, loc="left")
        axes.text(
            0.02, 0.98, f"means, poisons to {tested}: {relative_distance(arrays, reference):.2f}", transform=axes.transAxes,
            va="top", fontsize=9, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.5},
        )  # fmt: skip
        axes.axvline(0, color="#6fa0d0", linewidth=0.8, zorder=0)
        axes.axvline(1, color="#a8a8a8", linewidth=0.8, zorder=0)
        axes.set_xlabel(f"line between the class means\n(0: base class, 1: class of the {tested})", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelbottom=True, labelleft=True, labelsize=8)
    for axes in grid[len(arms) :]:
        axes.set_visible(False)
    figure.supylabel("leading principal component orthogonal to it", fontsize=9)
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4 if columns > 1 else 2, fontsize=9, frameon=False)
    return figure
