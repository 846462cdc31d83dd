"""What certificates withstand."""

from collections.abc import Callable
from typing import Any

from scripts.tables.reading import Rows, percent, read


def digits_certificate() -> Rows:
    """Certified accuracy by number and size of poisons, the best of the settings at their shared alpha."""
    page = read("digits_certificate/certificate.json")
    heads = [f"{eps} ({page['norm']})" if eps != "any" else "any change of their pixels" for eps in page["eps"]]
    rows = [["poisons", *heads, "any change, without noise"]]
    for place, k in enumerate(page["k"]):
        best = [max(one["table_all_settings"][place][i] for one in page["settings"]) for i in range(len(heads))]
        rows.append([str(k), *map(percent, best), percent(_without_noise(page, place))])
    return rows


def _without_noise(page: dict[str, Any], place: int) -> float:
    """The best of the same votes without noise, at its share of alpha."""
    return max(float(one["table_all_settings"][place][-1]) for one in page["bagging"])


def digits_trigger() -> Rows:
    """What the vote withstands of k poisons together with a trigger on the test image, which is noised."""
    page = read("digits_trigger/certificate.json")
    heads = [f"{eps} ({page['norm']})" if eps != "any" else "any change" for eps in page["eps"]]
    rows = [["poisons, and a trigger of " + page["trigger"], *heads, "any change, without noise on training images"]]
    (own,), (plain,) = page["settings"], page["bagging"]
    for place, k in enumerate(page["k"]):
        rows.append([str(k), *map(percent, own["table"][place]), percent(plain["table"][place][-1])])
    return rows


def mnist_certificate() -> Rows:
    """The same on MNIST for poisons of 16/255, with the settings that give it."""
    page = read("mnist_certificate/certificate.json")
    column, free = page["eps"].index("16/255"), page["eps"].index("any")
    heads = ["best", "setting", "same sigma", "best at .25", "best at 1", "best, all images at once"]
    rows = [["poisons, 16/255 each", *heads, "any change", "any change, without noise"]]
    for place, k in enumerate(page["k"]):
        value = {(one["sigma"], one["m"]): one["table_all_settings"][place][column] for one in page["settings"]}
        sigma, m = max(value, key=value.__getitem__)
        same = ", ".join(f"m {other}: {percent(got)}" for (s, other), got in value.items() if s == sigma and other != m)
        ends = []
        for end in (0.25, 1.0):
            at = max((key for key in value if key[0] == end), key=value.__getitem__)
            ends.append(f"{percent(value[at])} (m {at[1]})")
        at_once = max(one["table_all_images"][place][column] for one in page["settings"])
        anything = max(one["table_all_settings"][place][free] for one in page["settings"])
        ends += [percent(at_once), percent(anything), percent(_without_noise(page, place))]
        rows.append([str(k), percent(value[sigma, m]), f"sigma {sigma:g}, m {m}", same, *ends])
    return rows


def radii(record: str, m: int) -> Callable[[], Rows]:
    """The whole set's change that a vote withstands, by both bounds."""

    def table() -> Rows:
        rows = [["sigma, m", "median R, paper's bound", "median R with subsampling", "vote right", "one model right"]]
        for one in read(f"{record}/certificate.json")["settings"]:
            if one["m"] == m:
                bounds = f"{one['median_paper_radius']:.2f}", f"{one['median_radius']:.2f}"
                rows.append([f"{one['sigma']:g}, {m}", *bounds, percent(one["accuracy"]), percent(one["voter_accuracy"])])
        return rows

    return table


STARTS = {"none": "own weights", "trusted": "trusted images", "raw": "received images: **not certified**"}


def warm_starts() -> Rows:
    """What voters start from, and what that does to a certificate."""
    rows = [["voters", "start", "one model right", "vote right", "1 poison, 16/255", "5 poisons, 8/255"]]
    networks, heads = ([f"digits_warm_{kind}_{start}" for start in ("none", "trusted", "raw")] for kind in ("network", "head"))
    for record in (*networks, "digits_certificate", *heads[1:]):
        page = read(f"{record}/certificate.json")
        one = next(one for one in page["settings"] if one["sigma"] == 1)
        k, eps = page["k"].index, page["eps"].index
        shares = [percent(one["table"][k(1)][eps("16/255")]), percent(one["table"][k(5)][eps("8/255")])]
        if not page["certified"]:
            shares = [f"({share})" for share in shares]
        voters = f"{one['models']:,} {page['learner']}s, m {one['m']}, alpha {page['alpha']:g}"
        rights = percent(one["voter_accuracy"]), percent(one["accuracy"])
        rows.append([voters, STARTS[page["warm_start"]], *rights, *shares])
    return rows
