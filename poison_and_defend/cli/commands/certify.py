"""`certify`: how much poisoning a vote provably withstands."""

import poison_and_defend.datamodules  # noqa: F401
from poison_and_defend.certificate.plan import plan_certificate
from poison_and_defend.certificate.run import certify
from poison_and_defend.certificate.task import CertifyTask
from poison_and_defend.cli.options.parsing import CommandParser, Given, add_task
from poison_and_defend.training.launch import Launch

DEFAULTS = "certify/digits"


def add_options(parser: CommandParser, arguments: list[str]) -> None:
    """Options of a certificate, and where it runs."""
    add_task(parser, CertifyTask)
    parser.add_class_arguments(Launch, "trainer")


def run(given: Given) -> None:
    """Train what is missing of the voters, and write the certificate."""
    certify(plan_certificate(given.task(CertifyTask)), given.launch, given.text)
