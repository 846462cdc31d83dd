"""The table that a run ends with."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from poison_and_defend.reports.experiment.classes import NOTE as CLASSES_NOTE
from poison_and_defend.reports.experiment.classes import class_table
from poison_and_defend.reports.experiment.workings import HEAD, NOTE, REFUSED
from poison_and_defend.reports.labels import attack_label, counts_text, noise_text, several, tested_label
from poison_and_defend.reports.records import Result
from poison_and_defend.reports.summary import Summary


def print_summary(rows: Sequence[Summary], title: str) -> None:
    """Print attack success with its interval beside clean test accuracy, one line a defence.

    Attacks and victims have a column only where there are several.
    """
    table = Table(title=escape(title), title_justify="left", title_style="bold", caption_justify="left")
    many = [row for row in rows if row.trials > row.n]
    if many:
        # Said once for the whole table: repeated in every cell it would not fit into 80 columns.
        nouns = " or ".join(dict.fromkeys(tested_label(row.goal) for row in many))
        setups = " or ".join(dict.fromkeys(str(row.n) for row in many))
        table.caption = f"counted in images ({nouns}) of {setups} setups; a rate is the mean over setups"
    named = [attack_label(row.attack, row.variant) for row in rows]
    by_attack, by_victim, noised = several(named), several(row.victim for row in rows), any(row.sigma for row in rows)
    for name in (*(["attack"] if by_attack else []), *(["victim"] if by_victim else []), "defence"):
        # A chain's name is a sentence: it takes lines of its own rather than the room of the numbers.
        table.add_column(name, no_wrap=name != "defence", max_width=24 if name == "defence" else None)
    # A narrow terminal breaks these at a blank rather than cut a number.
    for name in (*(["sigma", "eps /\nsigma"] if noised else []), "attack success", "95 % interval", "test\naccuracy"):
        table.add_column(name, justify="right", no_wrap=name.endswith("sigma"))
    for attack, row in zip(named, rows, strict=True):
        colour = "red" if row.success_rate >= 0.5 else "green" if row.success_rate <= 0.15 else "yellow"
        table.add_row(
            *([escape(attack)] if by_attack else []),
            *([escape(row.victim)] if by_victim else []),
            escape(row.label),
            *(noise_text(row) if noised else []),
            f"[{colour}]{counts_text(row)}[/]",
            f"{row.ci_low:.1%} to {row.ci_high:.1%}",
            f"{row.clean_accuracy:.2%}",
        )
    Console().print(table)


def print_workings(rows: Sequence[Sequence[str]]) -> None:
    """Print the rows of :func:`poison_and_defend.reports.experiment.workings.workings`; nothing where there are none."""
    if not rows:
        return
    # Reasons are sentences, which a column would break into words; they follow below the table.
    refused = [f"{row[0]}: {row[-1]}" for row in rows if row[-1].startswith(REFUSED)]
    rows = [[*row[:-1], REFUSED if row[-1].startswith(REFUSED) else row[-1]] for row in rows]
    # Columns that are empty in every row would only push the others together.
    shown = [place for place in range(len(HEAD)) if any(row[place] for row in rows)]
    table = Table(caption="\n".join([escape(NOTE), *map(escape, refused)]), caption_justify="left")
    for place in shown:
        table.add_column(HEAD[place], justify="left" if place in (0, 1, len(HEAD) - 1) else "right")
    for row in rows:
        table.add_row(*(escape(row[place]) for place in shown))
    Console().print(table)


def print_classes(results: Sequence[Result]) -> None:
    """Print what :func:`poison_and_defend.reports.experiment.classes.class_table` says; nothing where it says nothing."""
    head, rows = class_table(results)
    if not rows:
        return
    table = Table(caption=escape(CLASSES_NOTE), caption_justify="left")
    for name in head:
        table.add_column(escape(name), justify="left" if name == "victim" else "right")
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)
