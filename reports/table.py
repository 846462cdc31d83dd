"""The table that a run ends with."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reports.figures import defense_label


def print_summary(rows: list[dict[str, Any]], title: str) -> None:
    """Print attack success with its interval beside clean test accuracy, one line a defence."""
    table = Table(title=escape(title), title_justify="left", title_style="bold")
    for name in ("defence", "sigma", "attack success", "95 % interval", "test accuracy"):
        table.add_column(name, justify="left" if name == "defence" else "right", no_wrap=True)
    for row in rows:
        colour = "red" if row["success_rate"] >= 0.5 else "green" if row["success_rate"] <= 0.15 else "yellow"
        table.add_row(
            defense_label(row["defense"]),
            f"{row['sigma']:g}" if row["sigma"] else "",
            f"[{colour}]{row['successes']} of {row['n']} = {row['success_rate']:.0%}[/]",
            f"{row['ci_low']:.1%} to {row['ci_high']:.1%}",
            f"{row['clean_accuracy']:.2%}",
        )
    Console().print(table)
