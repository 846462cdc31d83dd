"""`quality`: what sanitizing changed about a set of images."""

from poison_and_defend.cleaning.quality import QualityTask, run_quality
from poison_and_defend.cli.options.parsing import CommandParser, Given

DEFAULTS = None


def add_options(parser: CommandParser, arguments: list[str]) -> None:
    """What is compared."""
    parser.add_class_arguments(QualityTask, None)


def run(given: Given) -> None:
    """Write numbers and page."""
    run_quality(QualityTask(**given.options))
