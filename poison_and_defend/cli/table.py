"""All commands by name: what they do and where they are; none of them is imported here."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Entry:
    """Where a command is, and what it does.

    Attributes:
        module: Of the room of commands.
        about: One line for ``--help``.
        place: The option that says where it writes.
        continues: Whether the same command goes on from what an interrupted one kept.
    """

    module: str
    about: str
    place: str
    continues: bool = False

    def load(self) -> Any:
        """The command's module; some take seconds to import."""
        return import_module(f"{__package__}.commands.{self.module}")


_CHECKPOINTS = "--trainer.default_root_dir"
COMMANDS = {
    "poison-and-defend": Entry(
        "experiment", "craft poisons, train with and without each defence, compare and report", "--output_dir", True
    ),
    "benchmark": Entry(
        "benchmark", "several attacks on the same data, victims and setups, and one table for all", "--output_dir", True
    ),
    "attackers": Entry(
        "attackers", "an experiment by an attacker who ignores the defence and by one who knows it", "--output_dir", True
    ),
    "border": Entry(
        "border",
        "attack success over noise, budget and poisons, for attackers who ignore the defence and who know it",
        "--output_dir",
        True,
    ),
    "check-adaptive": Entry(
        "check_adaptive",
        "eleven checks of an attack that knows the defence: is it strong enough to tell?",
        "--output_dir",
        True,
    ),
    "certify": Entry(
        "certify", "train many voters and say how much poisoning their vote provably withstands", "--output_dir", True
    ),
    "certify-any": Entry(
        "certify_any",
        "say how many images may change in any way without changing votes on pretrained features",
        "--output_dir",
        True,
    ),
    "craft": Entry("craft", "craft the poisons of an experiment and stop", "--output_dir", True),
    "sanitize": Entry(
        "sanitize",
        "noise and denoise a folder of images, an .npz or any data set, resumable, with any number of processes",
        "--out",
        True,
    ),
    "quality": Entry(
        "quality", "compare a sanitized set with what it was: PSNR, SSIM, pictures, a classifier's accuracy", "--out"
    ),
    "recommend-sigma": Entry(
        "recommend_sigma", "the largest noise that costs no more accuracy than allowed, from a sample", "--out"
    ),
    "train-denoiser": Entry("train_denoiser", "train a small diffusion model on public images", "--out"),
    "export-poisons": Entry(
        "export_poisons", "write an experiment's poisons as the public benchmark's pickles, or as .npz", "--out"
    ),
    "report": Entry("report", "make the pictures and report.html of a finished experiment or certificate again", "--run"),
    "fit": Entry("lightning", "train a model on a data set, sanitizing it first if the data set says so", _CHECKPOINTS),
    "validate": Entry("lightning", "run one validation epoch", _CHECKPOINTS),
    "test": Entry("lightning", "measure a trained model", _CHECKPOINTS),
    "predict": Entry("lightning", "write a trained model's classes of the test images to a file", "--out"),
}
"""By name, in the order that ``--help`` shows them."""

PROGRAM = "poison-and-defend"


def usage(command: str) -> str:
    """How a command is typed; its options are listed below, and would take a page here."""
    return f"{PROGRAM} {command} [--config FILE] [--OPTION VALUE ...]"


LIGHTNING = tuple(name for name, entry in COMMANDS.items() if entry.module == "lightning")
"""Those that are Lightning's own."""
