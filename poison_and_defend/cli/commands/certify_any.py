"""`certify-any`: how many images may change in any way without changing votes on pretrained features."""

import poison_and_defend.datamodules  # noqa: F401
from poison_and_defend.certificate.any_change.plan import plan_any_change
from poison_and_defend.certificate.any_change.run import certify_any_change
from poison_and_defend.certificate.any_change.task import AnyChangeTask
from poison_and_defend.cli.options.parsing import CommandParser, Given, add_task
from poison_and_defend.training.launch import Launch

DEFAULTS = "certify/fashion_mnist"


def add_options(parser: CommandParser, arguments: list[str]) -> None:
    """Options of the certificate, and where it runs."""
    add_task(parser, AnyChangeTask)
    parser.add_class_arguments(Launch, "trainer")


def run(given: Given) -> None:
    """Compute what is missing of the features, and count."""
    certify_any_change(plan_any_change(given.task(AnyChangeTask)), given.launch, given.text)
