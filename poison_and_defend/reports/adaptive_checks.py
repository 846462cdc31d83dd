"""What was found of an adaptive attack: a row for every check, and whether its result may be taken for the defence's."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from poison_and_defend.core.files import write_bytes, write_json

Verdict = Literal["pass", "fail", "not measured"]

HEAD = ("number", "check", "measured", "bound", "verdict")
_COLOURS = {"pass": "green", "fail": "red", "not measured": "yellow"}


@dataclass(frozen=True)
class Check:
    """One check of an attack.

    Attributes:
        number: From 1 to 11.
        name: What is asked, in words.
        measured: What was found, in words and numbers; of what was not measured, why.
        bound: What it had to be.
        verdict: What follows.
        numbers: What was measured, for programs, as JSON can hold it.
    """

    number: int
    name: str
    measured: str
    bound: str
    verdict: Verdict
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def row(self) -> tuple[str, ...]:
        """As text, in the order of :data:`HEAD`."""
        return str(self.number), self.name, self.measured, self.bound, self.verdict


def conclusion(checks: Sequence[Check]) -> str:
    """One sentence on the attack: a check that fails makes it weak; one that was not measured leaves the question open."""
    failed = [str(check.number) for check in checks if check.verdict == "fail"]
    unknown = [str(check.number) for check in checks if check.verdict == "not measured"]
    left = f"; not measured: {', '.join(unknown)}" if unknown else ""
    if failed:
        return f"weak: fails {', '.join(failed)}{left}; what the defence withstood here says nothing of its strength"
    if unknown or len(checks) < 11:
        done = sum(check.verdict == "pass" for check in checks)
        return f"no check failed: {done} of 11 pass{left}"
    return "passes all 11 checks"


def write_checks(folder: Path, checks: Sequence[Check], about: Mapping[str, Any]) -> None:
    """Write ``adaptive_checks.json``, ``.csv`` and ``.md``, each whole or not at all.

    Args:
        folder: Must exist.
        about: What the attack was and what it took, for all checks alike.
    """
    said = {"conclusion": conclusion(checks), **about, "checks": [asdict(check) for check in checks]}
    write_json(folder / "adaptive_checks.json", said)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([HEAD, *(check.row() for check in checks)])
    write_bytes(folder / "adaptive_checks.csv", text.getvalue().encode())
    write_bytes(folder / "adaptive_checks.md", markdown(checks, about).encode())


def markdown(checks: Sequence[Check], about: Mapping[str, Any]) -> str:
    """The table, what the attack was, and the sentence."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    lines += ["| " + " | ".join(cell.replace("|", r"\|") for cell in check.row()) + " |" for check in checks]
    return "\n".join([*lines, "", _about(about), "", f"**{conclusion(checks)}**", ""])


def print_checks(checks: Sequence[Check], about: Mapping[str, Any]) -> None:
    """Print the table, what the attack was, and the sentence."""
    # As wide as a page where nobody is looking, so that a log has whole lines.
    console = Console() if Console().is_terminal else Console(width=120)
    table = Table(title="Is the attack any good?", title_justify="left", title_style="bold")
    for name in ("", *HEAD[1:]):
        table.add_column(name, no_wrap=name in ("", "verdict"), ratio=None if name in ("", "verdict") else 1)
    for check in checks:
        number, *cells, verdict = map(escape, check.row())
        table.add_row(number, *cells, f"[{_COLOURS[check.verdict]}]{verdict}[/]", end_section=True)
    console.print(table)
    console.print(escape(_about(about)))
    console.print(escape(conclusion(checks)), style="bold")


def _about(about: Mapping[str, Any]) -> str:
    return "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in about.items() if value is not None)
