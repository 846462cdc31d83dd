"""The table of several attackers: how often each succeeds under each defence."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from poison_and_defend.reports.labels import ATTACKERS, counts_text, several
from poison_and_defend.reports.summary import Summary


def print_attackers(found: Mapping[str, Sequence[Summary]]) -> None:
    """Print a row for each defence and victim, and a column of success with its 95 % interval for each attacker.

    Args:
        found: Summaries of each attacker, by what it knows; all of the same arms and victims.
    """
    first = next(iter(found.values()))
    by_victim = several(row.victim for row in first)
    table = Table(title="success of an attacker who ...", title_justify="left", title_style="bold")
    for name in (*(["victim"] if by_victim else []), "defence"):
        table.add_column(name, max_width=24 if name == "defence" else None)
    for who in found:
        table.add_column(f"... {ATTACKERS[who]}", justify="right")
    table.add_column("test\naccuracy", justify="right")
    for rows in zip(*found.values(), strict=True):
        shown = [f"{counts_text(row)}\n({row.ci_low:.0%} to {row.ci_high:.0%})" for row in rows]
        accuracies = " / ".join(dict.fromkeys(f"{row.clean_accuracy:.1%}" for row in rows))
        named = [escape(rows[0].victim)] if by_victim else []
        table.add_row(*named, escape(rows[0].label), *shown, accuracies)
    Console().print(table)
