"""`report`: pictures and pages again, from the folder of what is finished."""

from dataclasses import dataclass
from pathlib import Path

from poison_and_defend.cli.options.parsing import CommandParser, Given
from poison_and_defend.reports.any_change.write import write_any_change_report
from poison_and_defend.reports.certificate.write import write_certificate_report
from poison_and_defend.reports.experiment.write import write_report

DEFAULTS = None


@dataclass(frozen=True)
class Report:
    """What is shown.

    Args:
        run: Folder of a finished experiment or certificate.
    """

    run: str


def add_options(parser: CommandParser, arguments: list[str]) -> None:
    """What is shown."""
    parser.add_class_arguments(Report, None)


def run(given: Given) -> None:
    """Write pictures and page."""
    folder = Path(Report(**given.options).run)
    kinds = {"certificate.json": write_certificate_report, "any_change.json": write_any_change_report}
    write = next((write for name, write in kinds.items() if (folder / name).exists()), write_report)
    print(f"report: {write(folder)}")
