"""The table of several attackers: how often each succeeds under each defence."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from poison_and_defend.reports.labels import ATTACKERS, attack_label, counts_text, several
from poison_and_defend.reports.summary import Summary


def print_attackers(found: Mapping[str, Sequence[Summary]]) -> None:
    """Print a row for each defence, attack and victim, and a column of success with its 95 % interval for each attacker.

    Args:
        found: Summaries of each attacker, by what it knows; all of the same attacks, arms and victims in the same order.
    """
    lines = list(zip(*found.values(), strict=True))
    # What tells attacks apart is what all attackers of one do otherwise; what one of them knows is in the column's head.
    variants = [", ".join(part for part in rows[0].variant.split(", ") if part not in ATTACKERS.values()) for rows in lines]
    names = {
        "attack": [attack_label(rows[0].attack, variant) for rows, variant in zip(lines, variants, strict=True)],
        "victim": [rows[0].victim for rows in lines],
    }
    shown = {head: column for head, column in names.items() if several(column)}
    table = Table(title="success of an attacker who ...", title_justify="left", title_style="bold")
    for name in (*shown, "defence"):
        table.add_column(name, max_width=24 if name == "defence" else None)
    for who in found:
        table.add_column(f"... {ATTACKERS[who]}", justify="right")
    table.add_column("test\naccuracy", justify="right")
    for number, rows in enumerate(lines):
        cells = [f"{counts_text(row)}\n({row.ci_low:.0%} to {row.ci_high:.0%})" for row in rows]
        accuracies = " / ".join(dict.fromkeys(f"{row.clean_accuracy:.1%}" for row in rows))
        table.add_row(*(escape(column[number]) for column in shown.values()), escape(rows[0].label), *cells, accuracies)
    Console().print(table)
