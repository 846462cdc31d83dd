"""Attacks and countermeasures beside each other."""

from collections.abc import Callable

from poison_and_defend.reports.experiment.workings import HEAD, workings
from poison_and_defend.reports.records import read_results
from scripts.tables.reading import RECORDS, Arms, Rows, arms, name_of, percent, read, relative_budget, success


def defences(record: str, known: str | None = None) -> Callable[[], Rows]:
    """Every arm of one attack's record; ``known`` has the same arms against an attacker who knows the defence."""

    def table() -> Rows:
        heads = ["... who knows the defence"] if known else []
        rows = [["defence", "sigma", "eps / sigma", "attack success (95 % interval)", *heads, "accuracy on clean test images"]]
        knows = {row["defense"]: row for row in read(f"{known}/summary.json")} if known else {}
        for row in read(f"{record}/summary.json"):
            sigma = f"{row['sigma']:g}" if row["sigma"] else ""
            name = row.get("label") or name_of(row["defense"])
            both = [row, *([knows[row["defense"]]] if known else [])]
            accuracy = " / ".join(dict.fromkeys(percent(one["clean_accuracy"]) for one in both))
            rows.append([name, sigma, relative_budget(record, row), *map(success, both), accuracy])
        return rows

    return table


def filters_recipes_votes(record: str) -> Callable[[], Rows]:
    """What filters dropped, what recipes and votes cost, and what a vote withstands."""
    return lambda: [list(HEAD), *workings(read_results(RECORDS / record / "results.jsonl"))]


def attacks(
    records: str | dict[str, str],
    defenses: Arms,
    head: str = "attack",
    *,
    accuracy: bool = False,
    sign: bool = False,
    known: str | None = None,
) -> Callable[[], Rows]:
    """Attacks of one record, one a row; or records of one attack by their first cell.

    Args:
        accuracy: Whether the last column has it, undefended and defended.
        sign: Whether the last column compares with no attack.
        known: A record of the same attacks by who knows the last defence, which gets a column behind it.
    """

    def table() -> Rows:
        last = f"accuracy, undefended → {name_of(defenses[-1])}" if accuracy else "setups above, below" if sign else None
        noised = ["eps / sigma"] if "diffusion" in defenses else []
        knows = [f"{name_of(defenses[-1])}, who knows it"] if known else []
        rows = [[head, "n", *map(name_of, defenses), *knows, *noised, *([last] if last else [])]]
        by_knowing = {name.split(" (")[0]: own for name, own in arms(known).items()} if known else {}
        if isinstance(records, str):
            lines = [(name, records, found) for name, found in arms(records).items()]
        else:
            lines = [(name, record, next(iter(arms(record).values()))) for name, record in records.items()]
        for name, record, found in lines:
            cells = [name, str(found["none"]["n"])]
            cells += [success(found[arm]) if arm in found else "not measured" for arm in defenses]
            cells += [success(by_knowing[name.split(" (")[0]][defenses[-1]])] if known else []
            cells += [relative_budget(record, found["diffusion"]) if "diffusion" in found else ""] if noised else []
            if accuracy:
                right = [f"{100 * found[arm]['clean_accuracy']:.1f}" for arm in ("none", defenses[-1]) if arm in found]
                cells.append(f"{' → '.join(right)} %")
            elif sign:
                p = found["none"]["p_value"]
                shown = "p < 0.001" if p < 0.001 else f"p {p:.3f}"
                cells.append(f"{found['none']['higher']}, {found['none']['lower']} ({shown})")
            rows.append(cells)
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


def adaptive_checks(record: str) -> Callable[[], Rows]:
    """What was found of an attacker who knows the defence, check by check."""

    def table() -> Rows:
        rows = [["", "check", "measured", "verdict"]]
        for check in read(f"{record}/adaptive_checks.json")["checks"]:
            rows.append([str(check["number"]), check["name"], check["measured"].replace("|", r"\|"), check["verdict"]])
        return rows

    return table
