"""`certify`: how much poisoning a vote provably withstands."""

import poison_and_defend.datamodules  # noqa: F401
from poison_and_defend.certificate.run import run_certify
from poison_and_defend.certificate.task import CertifyTask
from poison_and_defend.cli.parsing import CommandParser, Given
from poison_and_defend.training.launch import Launch

DEFAULTS = "certify/digits"


def add_options(parser: CommandParser, arguments: list[str]) -> None:
    """Options of a certificate, and where it runs."""
    parser.add_class_arguments(CertifyTask, None)
    parser.add_class_arguments(Launch, "trainer")


def run(given: Given) -> None:
    """Train what is missing of the voters, and write the certificate."""
    run_certify(CertifyTask(**given.options), given.launch, given.text)
