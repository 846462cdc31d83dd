"""Writes the tables of README.md and docs/results/ from the committed records: ``python scripts/tables.py``.

A page marks where a table goes, ``<!-- table: NAME -->`` to ``<!-- /table -->``; what lies between is written anew. A test
compares every page with what this script would write, so that no figure of a table can differ from its record.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from poison_and_defend.reports.arm_names import arm_label
from poison_and_defend.reports.experiment.workings import HEAD, workings
from poison_and_defend.reports.records import read_results

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "docs" / "records"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs" / "results").glob("*.md")))
REGION = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)

Row = dict[str, Any]
Rows = list[list[str]]
Arms = tuple[str, ...]


def name_of(key: str) -> str:
    """An arm's name as reports show it, or an attack's as its paper writes it."""
    papers = {"witches_brew": "Witches' Brew", "label_consistent": "Label-consistent", "hidden_trigger": "Hidden trigger"}
    if arm_label(key) != key or "_" not in key:
        return arm_label(key)
    return papers.get(key, key.replace("_", " ").title())


def read(name: str) -> Any:
    """A record's JSON."""
    return json.loads((RECORDS / name).read_text())


def arms(name: str) -> dict[str, dict[str, Row]]:
    """Summary rows of a record by attack, with what is special about it, and defence."""
    found: dict[str, dict[str, Row]] = {}
    for row in read(f"{name}/summary.json"):
        variant = f" ({row['variant']})" if row.get("variant") else ""
        found.setdefault(name_of(row["attack"]) + variant, {})[row["defense"]] = row
    return found


def relative_budget(record: str, row: Row) -> str:
    """The attack's budget over the defence's noise, which older summaries do not say; "" without noise."""
    if not row["sigma"]:
        return ""
    if "eps_over_sigma" in row:
        return f"{row['eps_over_sigma']:.2g}"
    # A comparison keeps each attack's results in a folder of its own.
    own = next(path for name in (row["attack"], "") if (path := RECORDS / record / name / "results.jsonl").exists())
    line = next(line for line in map(json.loads, own.read_text().splitlines()) if line["defense"] == row["defense"])
    return f"{line['eps'] / line['sigma']:.2g}"


def percent(value: float, digits: int = 1) -> str:
    """A share as a page shows it."""
    return f"{100 * value:.{digits}f} %"


def success(row: Row) -> str:
    """Attack success with what was counted and its 95 % interval; of several trials a setup the mean of the setups' rates."""
    interval = f"({100 * row['ci_low']:.0f} to {100 * row['ci_high']:.0f})"
    if row["trials"] == row["n"]:
        return f"{row['successes']} of {row['n']} = {percent(row['success_rate'], 0)} {interval}"
    return f"{percent(row['success_rate'], 0)} of {row['trials']:,} {interval}"


def markdown(rows: Rows) -> str:
    """A table; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n"


def defences(record: str) -> Callable[[], Rows]:
    """Every arm of one attack's record."""

    def table() -> Rows:
        rows = [["defence", "sigma", "eps / sigma", "attack success (95 % interval)", "accuracy on clean test images"]]
        for row in read(f"{record}/summary.json"):
            sigma = f"{row['sigma']:g}" if row["sigma"] else ""
            name = row.get("label") or name_of(row["defense"])
            noise = sigma, relative_budget(record, row)
            rows.append([name, *noise, success(row), percent(row["clean_accuracy"])])
        return rows

    return table


def filters_recipes_votes(record: str) -> Callable[[], Rows]:
    """What filters dropped, what recipes and votes cost, and what a vote withstands."""
    return lambda: [list(HEAD), *workings(read_results(RECORDS / record / "results.jsonl"))]


def attacks(
    records: str | dict[str, str], defenses: Arms, head: str = "attack", *, accuracy: bool = False, sign: bool = False
) -> Callable[[], Rows]:
    """Attacks of one record, one a row; or records of one attack by their first cell. ``sign`` compares with no attack."""

    def table() -> Rows:
        last = f"accuracy, undefended → {name_of(defenses[-1])}" if accuracy else "setups above, below" if sign else None
        noised = ["eps / sigma"] if "diffusion" in defenses else []
        rows = [[head, "n", *map(name_of, defenses), *noised, *([last] if last else [])]]
        if isinstance(records, str):
            lines = [(name, records, found) for name, found in arms(records).items()]
        else:
            lines = [(name, record, next(iter(arms(record).values()))) for name, record in records.items()]
        for name, record, found in lines:
            cells = [name, str(found["none"]["n"])]
            cells += [success(found[arm]) if arm in found else "not measured" for arm in defenses]
            cells += [relative_budget(record, found["diffusion"]) if "diffusion" in found else ""] if noised else []
            if accuracy:
                known = [f"{100 * found[arm]['clean_accuracy']:.1f}" for arm in ("none", defenses[-1]) if arm in found]
                cells.append(f"{' → '.join(known)} %")
            elif sign:
                p = found["none"]["p_value"]
                shown = "p < 0.001" if p < 0.001 else f"p {p:.3f}"
                cells.append(f"{found['none']['higher']}, {found['none']['lower']} ({shown})")
            rows.append(cells)
        return rows

    return table


PHOTOGRAPHS = {
    "photographs_8": ("8/255", "25 (5 %)"),
    "photographs_8_augmented": ("8/255", "25 (5 %)"),
    "photographs_16": ("16/255", "25 (5 %)"),
    "photographs_8_five": ("8/255", "5 (1 %)"),
    "photographs_16_five": ("16/255", "5 (1 %)"),
}
"""Records of the transfer track on photographs: budget and poisons of each."""


def photographs(
    victim: str, defenses: dict[str, str], records: Arms, *, only: str = "", accuracy: Arms = ()
) -> Callable[[], Rows]:
    """Attacks on one victim, one a row, with the number of targets misread under each arm.

    Args:
        defenses: Arms by name, and the heads of their columns.
        only: What the names of attacks begin with that are shown.
        accuracy: Arms whose accuracies on clean images stand behind each row; none for a last row of all arms' means.
    """

    def table() -> Rows:
        last = [f"accuracy: {', '.join(defenses[arm] for arm in accuracy)}"] if accuracy else []
        rows = [["attack", "budget", "poisons", "n", *defenses.values(), *last]]
        shares: dict[str, list[float]] = {name: [] for name in defenses}
        for record in records:
            found: dict[str, dict[str, Row]] = {}
            for row in read(f"{record}/summary.json"):
                variant = f" ({row['variant']})" if row.get("variant") else ""
                name = name_of(row["attack"]) + variant
                if row["victim"] == victim and name.startswith(only):
                    found.setdefault(name, {})[row["defense"]] = row
            for name, own in found.items():
                right = {arm: 100 * own[arm]["clean_accuracy"] for arm in defenses}
                for arm, value in right.items():
                    shares[arm].append(value)
                cells = [success(own[arm]) if accuracy else str(own[arm]["successes"]) for arm in defenses]
                ends = [", ".join(f"{right[arm]:.1f}" for arm in accuracy) + " %"] if accuracy else []
                rows.append([name, *PHOTOGRAPHS[record], str(own["none"]["n"]), *cells, *ends])
        if not accuracy:
            means = [f"{sum(values) / len(values):.1f} %" for values in shares.values()]
            rows.append(["accuracy, mean of the rows", "", "", "", *means])
        return rows

    return table


def goal(records: dict[str, str], victims: dict[str, str]) -> Callable[[], Rows]:
    """Success and accuracy over the noise, four draws each, by number of poisons and victim."""

    def table() -> Rows:
        columns = [(records[key], victim) for key in records for victim in victims]
        heads = [f"{key}, {name}" for key in records for name in victims.values()]
        found = {
            column: {row["defense"]: row for row in read(f"{column[0]}/summary.json") if row["victim"] == column[1]}
            for column in columns
        }
        arms = ["no_attack", "none", *(f"diffusion_{number}_4" for number in ("05", "10", "15", "20", "25"))]
        rows = [["defence", *heads]]
        for arm in arms:
            own = [found[column][arm] for column in columns]
            name = name_of(arm) if own[0]["sigma"] == 0 else f"sigma {own[0]['sigma']:g}"
            cells = [f"{one['successes']} of {one['n']}, {100 * one['clean_accuracy']:.1f} %" for one in own]
            rows.append([name, *cells])
        return rows

    return table


def frontier(records: dict[str, str]) -> Callable[[], Rows]:
    """What denoisers leave of CIFAR-10 by noise: distance in pixels, and accuracy of heads, an extractor after another."""

    def table() -> Rows:
        pages = {name: read(record) for name, record in records.items()}
        counts = [str(count) for count in next(iter(pages.values()))["counts"]]
        heads = [f"{name}, {count} labels" for name in pages for count in counts]
        rows = [["denoiser", "sigma", "draws", "PSNR", *heads]]
        for group in zip(*(page["rows"] for page in pages.values()), strict=True):
            first = group[0]
            for key in [key for key in first if key.startswith("accuracy")]:
                draws = key.partition(", ")[2].removesuffix(" draws") or "1"
                named = [first["denoiser"] or "as received", f"{first['sigma']:g}" if first["denoiser"] else ""]
                looks = [draws, f"{first['psnr']:.1f} dB"] if first["denoiser"] else ["", ""]
                rows.append([*named, *looks, *(f"{one[key][count]:.1f} %" for one in group for count in counts)])
        return rows

    return table


def by_class(record: str) -> Callable[[], Rows]:
    """Success of a backdoor by adversarial class: of each class the mean of its setups' rates, an arm a row."""

    def table() -> Rows:
        results = read_results(RECORDS / record / "results.jsonl")
        classes = sorted({result.adversarial_label for result in results})
        rows = [["arm", "all classes (95 % interval)", *map(str, classes)]]
        for row in read(f"{record}/summary.json"):
            own = [result for result in results if result.defense == row["defense"]]
            rates = [[r.successes / r.trials for r in own if r.adversarial_label == number] for number in classes]
            rows.append([name_of(row["defense"]), success(row), *(percent(sum(one) / len(one), 0) for one in rates)])
        return rows

    return table


def digits_certificate() -> Rows:
    """Certified accuracy by number and size of poisons, the best of the settings at their shared alpha."""
    page = read("digits_certificate/certificate.json")
    heads = [f"{eps} ({page['norm']})" if eps != "any" else "any change of their pixels" for eps in page["eps"]]
    rows = [["poisons", *heads]]
    for place, k in enumerate(page["k"]):
        best = [max(one["table_all_settings"][place][i] for one in page["settings"]) for i in range(len(heads))]
        rows.append([str(k), *map(percent, best)])
    return rows


def mnist_certificate() -> Rows:
    """The same on MNIST for poisons of 16/255, with the settings that give it."""
    page = read("mnist_certificate/certificate.json")
    column = page["eps"].index("16/255")
    rows = [["poisons, 16/255 each", "best", "setting", "same sigma", "best at .25", "best at 1", "best, all images at once"]]
    for place, k in enumerate(page["k"]):
        value = {(one["sigma"], one["m"]): one["table_all_settings"][place][column] for one in page["settings"]}
        sigma, m = max(value, key=value.__getitem__)
        same = ", ".join(f"m {other}: {percent(got)}" for (s, other), got in value.items() if s == sigma and other != m)
        ends = []
        for end in (0.25, 1.0):
            at = max((key for key in value if key[0] == end), key=value.__getitem__)
            ends.append(f"{percent(value[at])} (m {at[1]})")
        at_once = max(one["table_all_images"][place][column] for one in page["settings"])
        rows.append([str(k), percent(value[sigma, m]), f"sigma {sigma:g}, m {m}", same, *ends, percent(at_once)])
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


def tiles() -> Rows:
    """Seams and fidelity by overlap."""
    rows = [["sigma", "overlap", "jumps at borders, times those elsewhere", "PSNR", "SSIM"]]
    for result in read("tiles.json")["results"]:
        for one in result["tiles"]:
            cells = [f"{one['overlap']} pixels", f"{one['seam']:.2f}", f"{one['psnr']:.1f} dB", f"{one['ssim']:.3f}"]
            rows.append([f"{result['sigma']:g}", *cells])
        whole = result["whole_image_at_once"]
        rows.append([f"{result['sigma']:g}", "whole image at once", "", f"{whole['psnr']:.1f} dB", f"{whole['ssim']:.3f}"])
    return rows


def sanitized_photographs() -> Rows:
    """Tiny ImageNet through a smaller model, by both ways."""
    page = read("tiny_imagenet_sanitized.json")
    rows = [["", "PSNR", "SSIM", "test accuracy (95 % interval)"]]
    for name, label in {"raw": "as received", "tiles": "`--large tiles`", "resize": "`--large resize`"}.items():
        measured, quality = page["test_accuracy"][name], page["quality"].get(name)
        looks = ["", ""] if quality is None else [f"{quality['psnr']:.1f} dB", f"{quality['ssim']:.3f}"]
        low, high = (f"{100 * end:.1f}" for end in measured["interval"])
        rows.append([label, *looks, f"{percent(measured['accuracy'])} ({low} to {high})"])
    return rows


def recipes() -> Rows:
    """What training by a recipe costs."""
    page = read("recipes.json")
    return [["recipe", "times plain training"], *([name, f"{cost:.1f}"] for name, cost in page["times_plain"].items())]


def crafting() -> Rows:
    """A step's time over that of the passes that it cannot do without."""
    rows = [["attack", "poisons", "setups together", "precision", "times the floor (range)"]]
    for one in read("crafting.json")["rows"]:
        low, high = one["ratio_range"]
        cells = [name_of(one["attack"]), str(one["poisons_per_setup"]), str(one["setups"]), one["precision"]]
        rows.append([*cells, f"{one['ratio']:.2f} ({low:.2f} to {high:.2f})"])
    return rows


README_ARMS = {
    "no_attack": "no attack",
    "none": "undefended",
    "jpeg_25": "JPEG 25",
    "diffusion_10_4": "sigma .1 x 4",
    "diffusion_25": "sigma .25",
}
ALL_ARMS = {
    "no_attack": "no attack",
    "none": "undefended",
    "jpeg_50": "JPEG 50",
    "jpeg_25": "25",
    "jpeg_10": "10",
    "noise_only": "noise",
    "denoise_only": "denoise",
    "diffusion_05": "both, .05",
    "diffusion_10": ".1",
    "diffusion_10_4": ".1 x 4",
    "diffusion_25": ".25",
}
SHOWN = ("no_attack", "none", "diffusion")
WITH_JPEG = ("no_attack", "none", "jpeg", "diffusion")
TABLES: dict[str, Callable[[], Rows]] = {
    "photographs": photographs(
        "lite0",
        README_ARMS,
        tuple(PHOTOGRAPHS),
        only="Bullseye",
        accuracy=("no_attack", "jpeg_25", "diffusion_10_4", "diffusion_25"),
    ),
    "photographs-white-box": photographs("lite0", ALL_ARMS, tuple(PHOTOGRAPHS)),
    "photographs-black-box": photographs("lite2", ALL_ARMS, tuple(PHOTOGRAPHS)),
    "photographs-goal": goal(
        {"25 poisons": "photographs_8_sigmas", "5 poisons": "photographs_8_five_sigmas"}, {"lite0": "Lite0", "lite2": "Lite2"}
    ),
    "denoising-frontier": frontier({"Lite0": "denoising_lite0.json", "Lite2": "denoising_lite2.json"}),
    "fashion-mnist-defences": defences("fashion_mnist_bullseye_polytope"),
    "digits-defences": defences("digits_bullseye_polytope"),
    "digits-countermeasures": defences("digits_countermeasures"),
    "digits-workings": filters_recipes_votes("digits_countermeasures"),
    "digits-attacks": attacks("digits_attacks", SHOWN, accuracy=True),
    "sleeper-agent-seed-1": attacks("digits_sleeper_agent_seed_1", SHOWN, accuracy=True),
    "digits-certificate": digits_certificate,
    "digits-radii": radii("digits_certificate", 30),
    "warm-starts": warm_starts,
    "cifar10-augmented": attacks("cifar10_transfer", WITH_JPEG, accuracy=True),
    "cifar10-plain": attacks("cifar10_transfer_plain", WITH_JPEG, accuracy=True),
    "cifar10-backdoors": attacks("cifar10_transfer_backdoors", WITH_JPEG, accuracy=True),
    "cifar10-label-consistent": attacks(
        {
            "64/255": "cifar10_label_consistent/label_consistent",
            "overwrites pixels": "cifar10_label_consistent/label_consistent_full",
        },
        SHOWN,
        "trigger",
        accuracy=True,
    ),
    "narcissus-by-class": by_class("cifar10_narcissus"),
    "digits-sapa": attacks({rho: f"digits_sapa_{rho}" for rho in ("0", "0.05", "0.5")}, SHOWN[:2], "sharpness"),
    "cifar10-from-scratch": attacks("cifar10_from_scratch", SHOWN, accuracy=True),
    "cifar10-few-poisons": attacks({"50": "cifar10_from_scratch_50", "150": "cifar10_from_scratch_150"}, SHOWN[:2], "poisons"),
    "tiny-imagenet": attacks(
        {"50 (1 %)": "tiny_imagenet_transfer", "25 (0.5 %)": "tiny_imagenet_transfer_25"}, WITH_JPEG, "poisons", accuracy=True
    ),
    "sanitized-photographs": sanitized_photographs,
    "tiles": tiles,
    "mnist-certificate": mnist_certificate,
    "mnist-radii": radii("mnist_certificate", 50),
    "crafting": crafting,
    "recipes": recipes,
}


def filled(text: str) -> str:
    """A page with its tables as the records say."""
    return REGION.sub(lambda region: f"{region[1]}{markdown(TABLES[region[2]]())}{region[3]}", text)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(filled(path.read_text()))
