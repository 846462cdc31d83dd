"""`recommend-sigma`: how much noise a set of images bears."""

from poison_and_defend.cleaning.recommend_sigma import RecommendTask, run_recommend
from poison_and_defend.cli.options.parsing import CommandParser, Given

DEFAULTS = None


def add_options(parser: CommandParser, arguments: list[str]) -> None:
    """What is measured."""
    parser.add_class_arguments(RecommendTask, None)


def run(given: Given) -> None:
    """Measure, and print what was found."""
    run_recommend(RecommendTask(**given.options))
