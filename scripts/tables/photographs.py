"""Attacks on features that know photographs, and what denoising leaves of these."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from poison_and_defend.reports.border.figures import eps_text
from scripts.tables.reading import Arms, Row, Rows, name_of, percent, read, success

PHOTOGRAPHS = {
    "photographs_hundred": ("8/255", "25 (5 %)"),
    "photographs_8": ("8/255", "25 (5 %)"),
    "photographs_8_augmented": ("8/255", "25 (5 %)"),
    "photographs_8_unaware": ("8/255", "25 (5 %)"),
    "photographs_16": ("16/255", "25 (5 %)"),
    "photographs_8_five": ("8/255", "5 (1 %)"),
    "photographs_16_five": ("16/255", "5 (1 %)"),
    "photographs_backdoors": ("8/255", "25 (5 %)"),
    "photographs_tiny": ("8/255", "25 (5 %)"),
    "photographs_scratch_16": ("16/255", "250 (5 %)"),
    "photographs_scratch_16_few": ("16/255", "50 (1 %)"),
    "photographs_scratch_8": ("8/255", "250 (5 %)"),
    "photographs_scratch_8_few": ("8/255", "50 (1 %)"),
}
"""Records of attacks on photographs: budget and poisons of each."""

UNAWARE = {"photographs_8_unaware": ", victims augment"}
"""What victims do in a record that its attacker does not reckon with, behind the attack's name."""

TRANSFER = tuple(name for name in PHOTOGRAPHS if name.startswith(("photographs_8", "photographs_16")))
"""Those of the transfer track that aim at single targets."""

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

SCRATCH_ARMS = {
    "no_attack": "no attack",
    "none": "undefended",
    "jpeg_25": "JPEG 25",
    "noise_only": "noise",
    "denoise_only": "denoise",
    "diffusion_10": "noise + denoise",
}


def photographs(
    victim: str,
    defenses: dict[str, str],
    records: Arms,
    *,
    only: str = "",
    accuracy: Arms = (),
    known: Mapping[str, Arms] = MappingProxyType({}),
) -> Callable[[], Rows]:
    """Attacks on one victim, one a row, with the number of targets misread under each arm, or the share of triggered images.

    Args:
        defenses: Arms by name, and the heads of their columns.
        only: What the names of attacks begin with that are shown.
        accuracy: Arms whose accuracies on clean images stand behind each row; none for a last row of all arms' means.
        known: Maps with cells of attackers who know one of these arms, by the arm, beside which their column stands.
    """

    def table() -> Rows:
        last = [f"accuracy: {', '.join(defenses[arm] for arm in accuracy)}"] if accuracy else []
        heads = [
            head for arm, text in defenses.items() for head in (text, *([f"{text}, who knows it"] if arm in known else []))
        ]
        rows = [["attack", "budget", "poisons", "n", *heads, *last]]
        shares: dict[str, list[float]] = {name: [] for name in defenses}
        for record in records:
            found: dict[str, dict[str, Row]] = {}
            for row in read(f"{record}/summary.json"):
                variant = f" ({row['variant']})" if row.get("variant") else ""
                name = name_of(row["attack"]) + variant + UNAWARE.get(record, "")
                if row["victim"] == victim and name.startswith(only):
                    found.setdefault(name, {})[row["defense"]] = row
            for name, own in found.items():
                right = {arm: 100 * own[arm]["clean_accuracy"] for arm in defenses if arm in own}
                for arm, value in right.items():
                    shares[arm].append(value)
                # An arm that a record has not, since it is that of another one, stays empty.
                cells = []
                for arm in defenses:
                    cells.append((success(own[arm]) if accuracy else _brief(own[arm])) if arm in own else "")
                    cells += [_known(known[arm], victim, PHOTOGRAPHS[record], name)] if arm in known else []
                ends = [", ".join(f"{right[arm]:.1f}" if arm in right else "-" for arm in accuracy) + " %"] if accuracy else []
                rows.append([name, *PHOTOGRAPHS[record], str(own["none"]["n"]), *cells, *ends])
        if not accuracy:
            means = [f"{sum(values) / len(values):.1f} %" for values in shares.values()]
            rows.append(["accuracy, mean of the rows", "", "", "", *means])
        return rows

    return table


def _known(records: Arms, victim: str, threat: tuple[str, str], attack: str) -> str:
    """Success of who knows the defence, of the same attack, budget and number of poisons; "" where it is not measured."""
    for found in (read(f"{record}/border.json") for record in records):
        for cell in found["cells"]:
            own = eps_text(cell["eps"]), cell["num_poisons"], cell["victim"], name_of(found["conditions"]["attack"])
            if own == (threat[0], int(threat[1].split()[0]), victim, attack) and cell["attacker"] == "defense":
                return success(cell)
    return ""


def _brief(row: Row) -> str:
    return str(row["successes"]) if row["trials"] == row["n"] else percent(row["success_rate"])


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
    """What denoisers leave of images by noise: distance in pixels, and accuracy of heads, an extractor after another."""

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


def hours(record: str, pages: dict[str, str], steps: dict[str, int], heads: dict[str, str]) -> Callable[[], Rows]:
    """Accuracy of heads over the time that a denoiser was trained for, with one draw and with several.

    Args:
        pages: Records with the denoiser of the first phase, called ``pixels``, by extractor.
        steps: Of the shipped denoiser's two phases; their time is that of as many steps in this record.
        heads: Extractors, and how they are called.
    """

    def table() -> Rows:
        page = read(record)
        count, several = str(page["count"]), f"accuracy, {page['draws']} draws"
        sigmas = sorted({row["sigma"] for row in page["rows"]})
        spent = {(row["phase"], row["steps"]): row["core_seconds"] for row in page["rows"]}
        first, second = (_seconds_a_step(spent, phase) * number for phase, number in steps.items())

        def cells(found: Callable[[float, str], Row]) -> list[str]:
            own = [found(sigma, name) for sigma in sigmas for name in heads]
            return [f"{one['accuracy'][count]:.1f} / {one[several][count]:.1f} %" for one in own]

        def here(phase: str, number: int) -> list[str]:
            rows = {row["sigma"]: row["heads"] for row in page["rows"] if (row["phase"], row["steps"]) == (phase, number)}
            return cells(lambda sigma, name: rows[sigma][name])

        def before(sigma: float, name: str) -> Row:
            return next(row for row in read(pages[name])["rows"] if (row["denoiser"], row["sigma"]) == ("pixels", sigma))

        told = {
            "pixels": (0.0, "{:,} steps on pixels"),
            "features": (first + second, "and {:,} more"),
        }
        own = {
            phase: [
                [text.format(number), f"{(start + spent[phase, number]) / 3600:.2f}", *here(phase, number)]
                for name, number in sorted(spent)
                if name == phase
            ]
            for phase, (start, text) in told.items()
        }
        return [
            ["training", "core hours", *(f"{name}, sigma {sigma:g}" for sigma in sigmas for name in heads.values())],
            *own["pixels"],
            [f"{steps['pixels']:,} steps on pixels", f"{first / 3600:.2f}", *cells(before)],
            [f"and {steps['features']:,} with features: `photos-32`", f"{(first + second) / 3600:.2f}", *here("shipped", 0)],
            *own["features"],
        ]

    return table


def _seconds_a_step(spent: Mapping[tuple[str, int], float], phase: str) -> float:
    """Of the longest training, less that of the shortest where there are two: both begin with loading the same images."""
    runs = sorted((number, seconds) for (name, number), seconds in spent.items() if name == phase)
    (first, least), (last, most) = (runs[0], runs[-1]) if len(runs) > 1 else ((0, 0.0), runs[0])
    return (most - least) / (last - first)
