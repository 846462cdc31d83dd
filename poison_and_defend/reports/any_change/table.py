"""The table that a certificate of any change ends with on the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from poison_and_defend.reports.any_change.records import NAMES, AnyChange
from poison_and_defend.reports.any_change.text import notes


def print_any_change(result: AnyChange) -> None:
    """Print certified accuracy by vote and number of poisons, and what it holds for."""
    console = Console()
    claim = "certified accuracy" if result.certified else "NOT CERTIFIED"
    title = f"{result.dataset}: {claim} against any change of k of {result.received:,} images"
    table = Table(title=escape(title), title_justify="left", title_style="bold")
    table.add_column("vote")
    for k in result.k:
        table.add_column(f"k = {k:,}", justify="right")
    for vote in result.shown():
        table.add_row(NAMES[vote.name], *(f"{share:.1%}" for share in vote.certified))
    console.print(table)
    for text in notes(result):
        console.print(escape(text))
