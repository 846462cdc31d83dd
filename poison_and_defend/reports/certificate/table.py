"""The tables that a certificate ends with on the terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from poison_and_defend.reports.certificate.records import Certificate, Certified
from poison_and_defend.reports.certificate.text import eps_label, notes


def print_certificate(result: Certificate) -> None:
    """Print certified accuracy against (k, eps), every setting's whole-set radius, and what each number holds for."""
    console, settings = Console(), result.settings
    claim = "certified accuracy" if result.certified else "NOT CERTIFIED"
    title = f"{result.dataset}: {claim}, {settings[0].models} models"
    table = Table(title=escape(title), title_justify="left", title_style="bold")
    table.add_column("poisons", justify="right")
    for eps in result.eps:
        table.add_column(f"{eps_label(eps)}{'' if eps == 'any' else ' ' + result.norm}", justify="right")
    if result.bagging:
        table.add_column("any change, no noise", justify="right")
    for number, (k, row) in enumerate(zip(result.k, result.best, strict=True)):
        plain = result.best_bagging(number)
        rival = [] if plain is None else [f"{plain.table_all_settings[number][-1]:.1%}\n[dim]{plain.short}[/]"]
        table.add_row(str(k), *(_cell(cell, settings) for cell in row), *rival)
    console.print(table)
    whole = Table(title="whole set: certified accuracy at l2 radius R of all changes together", title_justify="left")
    for name in ("setting", "vote", "one model", "abstained", "R = 0", "median R", "paper's R"):
        whole.add_column(name, justify="left" if name == "setting" else "right")
    for r in [*settings, *result.bagging]:
        shares = (f"{getattr(r, key):.1%}" for key in ("accuracy", "voter_accuracy", "abstained", "certified_unattacked"))
        whole.add_row(r.label, *shares, f"{r.median_radius:.3f}", f"{r.median_paper_radius:.3f}")
    console.print(whole)
    for text in notes(result):
        console.print(escape(text))


def _cell(cell: dict[str, Any], settings: Sequence[Certified]) -> str:
    share = cell["certified"]
    colour = "green" if share >= 0.9 else "yellow" if share >= 0.5 else "red"
    own = settings[cell["setting"]]
    note = f"\n[dim]{own.short}[/]" if len(settings) > 1 and share else ""
    return f"[{colour}]{share:.1%}[/]{note}"
