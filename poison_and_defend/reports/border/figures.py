"""Pictures of a map: success over sigma and eps for each attacker, over eps / sigma alone, and over accuracy."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from poison_and_defend.reports.border.cells import Map, axes_of
from poison_and_defend.reports.labels import ATTACKERS
from poison_and_defend.reports.records import NO_ATTACK

matplotlib.use("Agg")


def eps_text(eps: float) -> str:
    """A budget in levels of 255, if it is one."""
    levels = eps * 255
    return f"{levels:.0f}/255" if abs(levels - round(levels)) < 1e-6 else f"{eps:g}"


def border_figure(found: Map, victim: str) -> Figure:
    """A field of success for each attacker (columns) and number of poisons (rows), and accuracy under it.

    Args:
        victim: Of which architecture.
    """
    axes = axes_of(found.cells)
    sigmas, budgets, counts, attackers = axes["sigma"], axes["eps"], axes["num_poisons"], axes["attacker"]
    width = 0.62 * len(sigmas) + 0.6
    height = [0.45 * len(budgets) + 0.9] * len(counts) + [1.5]
    figure = Figure(figsize=(width * len(attackers) + 1.2, sum(height)), layout="constrained")
    fields = figure.subplots(
        len(counts) + 1, len(attackers), squeeze=False, sharex=True, sharey="row", gridspec_kw={"height_ratios": height}
    )
    image = None
    for column, attacker in enumerate(attackers):
        for row, count in enumerate(counts):
            own, field = found.of(attacker, count, victim), fields[row, column]
            values = np.full((len(budgets), len(sigmas)), np.nan)
            for (sigma, eps), cell in own.items():
                place = budgets.index(eps), sigmas.index(sigma)
                values[place] = 100 * cell.success_rate
                text = f"{cell.successes}/{cell.trials}" if cell.trials == cell.n else f"{cell.success_rate:.0%}"
                field.text(
                    place[1],
                    place[0],
                    text,
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="w" if cell.success_rate > 0.55 else "k",
                )
            image = field.imshow(values, vmin=0, vmax=100, cmap="Reds", aspect="auto", origin="lower")
            field.set_yticks(range(len(budgets)), [eps_text(eps) for eps in budgets])
            field.set_title(f"{ATTACKERS[attacker]}, {count} poisons", fontsize=9)
            if not column:
                field.set_ylabel("eps")
        _accuracy(fields[-1, column], found, attacker, victim, sigmas)
    if image is not None:
        figure.colorbar(image, ax=fields[:-1], label="attack success, %", fraction=0.03)
    return figure


def _accuracy(axes: matplotlib.axes.Axes, found: Map, attacker: str, victim: str, sigmas: list[float]) -> None:
    """Mean accuracy over budgets and poisons, which hardly move it, at each sigma."""
    means = []
    for sigma in sigmas:
        own = [
            cell.clean_accuracy
            for cell in found.cells
            if (cell.sigma, cell.victim) == (sigma, victim)
            and cell.attacker in (attacker, "oblivious" if not sigma else attacker)
        ]
        means.append(100 * sum(own) / len(own) if own else np.nan)
    axes.plot(range(len(sigmas)), means, "o-", color="C0")
    control = [cell.clean_accuracy for cell in found.cells if (cell.attacker, cell.victim) == (NO_ATTACK, victim)]
    if control:
        axes.axhline(100 * sum(control) / len(control), color="grey", linewidth=0.8, linestyle=":")
    axes.set(ylim=(0, 100), xlabel="sigma", ylabel="accuracy, %", xticks=range(len(sigmas)))
    axes.set_xticklabels([f"{sigma:g}" for sigma in sigmas])
    axes.label_outer()


def ratio_figure(found: Map, victim: str) -> Figure:
    """Success over eps / sigma, a line for each budget: lines that lie on one another mean that the ratio alone decides."""
    axes = axes_of(found.cells)
    counts, attackers = axes["num_poisons"], axes["attacker"]
    figure = Figure(figsize=(3.6 * len(attackers) + 0.8, 2.5 * len(counts) + 0.6), layout="constrained")
    fields = figure.subplots(len(counts), len(attackers), squeeze=False, sharex=True, sharey=True)
    for column, attacker in enumerate(attackers):
        for row, count in enumerate(counts):
            own, field = found.of(attacker, count, victim), fields[row, column]
            for number, eps in enumerate(axes["eps"]):
                line = sorted((eps / s, 100 * c.success_rate) for (s, e), c in own.items() if e == eps and s)
                field.plot(
                    *zip(*line, strict=True), "o-", color=f"C{number}", label=eps_text(eps), markersize=4
                ) if line else None
            field.set_title(f"{ATTACKERS[attacker]}, {count} poisons", fontsize=9)
            field.set(xscale="log", ylim=(-3, 103))
            field.spines[["top", "right"]].set_visible(False)
            field.label_outer()
    for field in fields[:, 0]:
        field.set_ylabel("attack success, %")
    for field in fields[-1]:
        field.set_xlabel("eps / sigma")
    fields[0, 0].legend(title="eps", fontsize=7, title_fontsize=7, frameon=False)
    return figure


def frontier_figure(found: Map, victim: str) -> Figure:
    """Success over accuracy, a field for each number of poisons (rows) and budget (columns), a line for each attacker.

    Points are sigmas. Dotted: what is misread without an attack, and the accuracy there; the lower right corner costs nothing
    and holds.
    """
    axes = axes_of(found.cells)
    counts, budgets = axes["num_poisons"], axes["eps"]
    figure = Figure(figsize=(2.7 * len(budgets) + 0.8, 2.5 * len(counts) + 0.7), layout="constrained")
    fields = figure.subplots(len(counts), len(budgets), squeeze=False, sharex=True, sharey=True)
    control = [cell.clean_accuracy for cell in found.cells if (cell.attacker, cell.victim) == (NO_ATTACK, victim)]
    for row, count in enumerate(counts):
        for field, eps in zip(fields[row], budgets, strict=True):
            for number, attacker in enumerate(axes["attacker"]):
                own = sorted((s, cell) for (s, e), cell in found.of(attacker, count, victim).items() if e == eps)
                places = [(100 * cell.clean_accuracy, 100 * cell.success_rate) for _, cell in own]
                if places:
                    field.plot(*zip(*places, strict=True), "o-", color=f"C{number}", label=ATTACKERS[attacker], markersize=4)
                for (sigma, _), place in zip(own, places, strict=True):
                    # Most points lie at the right edge.
                    near = {"xytext": (-4, 4), "textcoords": "offset points", "ha": "right"}
                    field.annotate(f"{sigma:g}", place, fontsize=6, color=f"C{number}", **near)
            field.axhline(100 * found.chance(count, victim), color="grey", linewidth=0.8, linestyle=":")
            if control:
                field.axvline(100 * sum(control) / len(control), color="grey", linewidth=0.8, linestyle=":")
            field.set_title(f"{eps_text(eps)}, {count} poisons", fontsize=9)
            field.set_ylim(-3, 108)
            field.spines[["top", "right"]].set_visible(False)
            field.label_outer()
    for field in fields[:, 0]:
        field.set_ylabel("attack success, %")
    for field in fields[-1]:
        field.set_xlabel("accuracy, %")
    fields[0, 0].legend(fontsize=7, frameon=False, loc="center left")
    return figure
