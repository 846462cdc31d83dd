"""What votes on pretrained features withstand of any change."""

from collections.abc import Callable

from poison_and_defend.reports.any_change.records import NAMES
from scripts.tables.reading import Rows, percent, read


def any_change(record: str, *, labels: bool = False) -> Callable[[], Rows]:
    """Certified accuracy by vote and number of poisons.

    Args:
        record: Its folder.
        labels: Whether labels may change, too.
    """

    def table() -> Rows:
        page = read(f"{record}/any_change.json")
        rows = [["vote", *(f"k = {k:,}" for k in page["k"])]]
        for vote in sorted(page["votes"], key=lambda one: list(NAMES).index(one["name"])):
            rows.append([NAMES[vote["name"]], *map(percent, vote["with_labels" if labels else "certified"])])
        return rows

    return table


def any_change_of(chosen: dict[tuple[str, str], str]) -> Callable[[], Rows]:
    """Certified accuracy of votes of several records at the same numbers of poisons.

    Args:
        chosen: What a row is called, by record and vote.
    """

    def table() -> Rows:
        pages = {record: read(f"{record}/any_change.json") for record, _ in chosen}
        (ks,) = {tuple(page["k"]) for page in pages.values()}
        rows = [["vote", *(f"k = {k:,}" for k in ks)]]
        for (record, name), text in chosen.items():
            (vote,) = (one for one in pages[record]["votes"] if one["name"] == name)
            rows.append([text, *map(percent, vote["certified"])])
        return rows

    return table


def beside_noise(counted: str, sampled: str) -> Callable[[], Rows]:
    """The best of both kinds of certificate at the same numbers of poisons: counted votes, and noise with sampled ones.

    Args:
        counted: Record of ``certify-any``.
        sampled: Record of ``certify``.
    """

    def table() -> Rows:
        page, other = read(f"{counted}/any_change.json"), read(f"{sampled}/certificate.json")
        votes = {one["name"]: one["certified"] for one in page["votes"]}
        noises = [f"noise, {eps}" if eps != "any" else "noise, any change" for eps in other["eps"]]
        rows = [["poisons", *noises, "bagging without noise, any change", "neighbours, any change"]]
        for place, k in enumerate(other["k"]):
            noisy = [max(one["table_all_settings"][place][i] for one in other["settings"]) for i in range(len(noises))]
            plain = max(one["table_all_settings"][place][-1] for one in other["bagging"])
            rows.append([f"{k:,}", *map(percent, noisy), percent(plain), percent(votes["neighbours"][page["k"].index(k)])])
        return rows

    return table
