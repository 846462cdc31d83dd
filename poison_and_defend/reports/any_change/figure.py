"""The picture of a certificate of any change."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from poison_and_defend.reports.any_change.records import NAMES, AnyChange

matplotlib.use("Agg")


def certified_curves(result: AnyChange) -> Figure:
    """Certified accuracy against the number of poisons; a line a family of votes, and a level for trusted images alone."""
    figure = Figure(figsize=(9.0, 4.8), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(result.k))
    for number, vote in enumerate(one for one in result.shown() if one.name != "trusted"):
        planned = vote.name == "planned"
        # The best of all lies on one of the others.
        style = {"color": "#222222", "linewidth": 5, "alpha": 0.25} if planned else {"color": f"C{number}", "marker": "o"}
        axes.plot(places, [100 * share for share in vote.certified], label=NAMES[vote.name], **style)
    if result.alone is not None:
        axes.axhline(100 * result.alone, color="#666666", linestyle="--", label=f"{NAMES['trusted']}, {result.trusted:,}")
    axes.set_xticks(places, [f"{k:,}" for k in result.k])
    axes.set(xlabel=f"k, of {result.received:,} received images", ylabel="certified accuracy, %", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    figure.suptitle(f"{result.dataset}: any change of k images", x=0.02, ha="left", fontsize=11)
    return figure
