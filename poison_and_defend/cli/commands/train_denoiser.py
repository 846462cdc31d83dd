"""`train-denoiser`: a small diffusion model on public images."""

import lightning as L

import poison_and_defend.datamodules  # noqa: F401
from poison_and_defend.cli.commands.lightning import trainer_refusals
from poison_and_defend.cli.options.parsing import CommandParser, parse
from poison_and_defend.core.processes.interrupts import saying
from poison_and_defend.datamodules.wrappers.public import PublicDataModule
from poison_and_defend.lightning_modules.denoiser import DenoiserModule
from poison_and_defend.training.denoiser import train_denoiser
from poison_and_defend.training.launch import quiet_lightning

DEFAULTS = None


def add_options(parser: CommandParser, arguments: list[str]) -> None:
    """Options of the model, of the images and of a whole Trainer."""
    group = parser.add_argument_group("What is written")
    group.add_argument("--out", type=str, required=True, help="Folder to write; must not exist.")
    group.add_argument("--half", type=bool, default=False, help="Store float16 weights.")
    parser.add_class_arguments(DenoiserModule, "model")
    parser.add_class_arguments(PublicDataModule, "data")
    parser.add_class_arguments(L.Trainer, "trainer")


def start(command: str, arguments: list[str]) -> None:
    """Train and write a denoiser.

    Raises:
        InputError: If an option cannot be used, or the Trainer cannot be made.
    """
    quiet_lightning()
    parser = CommandParser.of(command, DEFAULTS)
    add_options(parser, arguments)
    with trainer_refusals():
        built = parse(parser, arguments).options
    again = f"stopped; {built['out']} is not written, and the same command trains again from the start"
    with saying(lambda: again):
        target = train_denoiser(built["model"], built["data"], built["trainer"], built["out"], half=built["half"])
    print(f"denoiser: {target}")
