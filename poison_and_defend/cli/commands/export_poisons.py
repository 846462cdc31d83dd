"""`export-poisons`: an experiment's poisons as the public benchmark's files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from poison_and_defend.cli.options.parsing import CommandParser, Given
from poison_and_defend.poisons.exchange import export_poisons

DEFAULTS = None


@dataclass(frozen=True)
class Export:
    """What is written, and where.

    Args:
        run: Folder of an experiment whose poisons are crafted.
        out: Folder to write.
        format: Format of the files: ``pickle`` (the benchmark's three files a setup) or ``npz``.
    """

    run: str
    out: str
    format: Literal["pickle", "npz"] = "pickle"


def add_options(parser: CommandParser, arguments: list[str]) -> None:
    """What is written, and where."""
    parser.add_class_arguments(Export, None)


def run(given: Given) -> None:
    """Write one folder or file a setup."""
    export = Export(**given.options)
    print(f"{export_poisons(Path(export.run), Path(export.out), export.format)} setups are in {export.out}")
