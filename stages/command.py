"""Command-line parsing: which stage, with which configuration."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from errors import InputError
from stages.parsing import parse
from stages.presets import TRANSFER_ATTACKS
from stages.sanitize_commands import quality, recommend_sigma, sanitize

_ROOT = Path(__file__).resolve().parent.parent
_DEFAULTS = _ROOT / "configs" / "digits.yaml"
_CERTIFY_DEFAULTS = _ROOT / "configs" / "certify" / "digits.yaml"
_LIGHTNING = {
    "fit": "train a model on a data set, sanitizing it first if the data set says so",
    "validate": "run one validation epoch",
    "test": "measure a trained model",
    "predict": "run a trained model",
}

_FROM_DATA: dict[str, Callable[[Any], Any]] = {
    "num_classes": lambda data: data.num_classes,
    "in_channels": lambda data: data.image_shape[0],
    "mean": lambda data: list(data.mean),
    "std": lambda data: list(data.std),
}


def dispatch(arguments: list[str]) -> None:
    """Run the command that the first argument names.

    Raises:
        InputError: If there is no such command, or its input is bad.
    """
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        print(_overview())
    elif command in _LIGHTNING:
        _lightning(arguments)
    elif command in _STAGES:
        _STAGES[command][0](arguments[1:])
    else:
        known = ", ".join([*_STAGES, *_LIGHTNING])
        raise InputError(f"there is no command {command!r}: choose from {known}")


def _overview() -> str:
    lines = ["usage: python cli.py COMMAND [--config FILE] [--OPTION VALUE ...]", "", "stages:"]
    lines += [f"  {name:18} {text}" for name, (_, text) in _STAGES.items()]
    lines += ["", "Lightning:", *(f"  {name:18} {text}" for name, text in _LIGHTNING.items())]
    lines += ["", "python cli.py COMMAND --help lists the options of a command; --print_config writes them as YAML."]
    return "\n".join(lines)


def _lightning(arguments: list[str]) -> None:
    import lightning as L
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

    import datamodules
    import lightning_modules  # noqa: F401
    from callbacks import TargetMisclassification
    from callbacks.wandb_logging import SaveFullConfig
    from stages.requeue import refuse_foreign_checkpoint

    class CLI(LightningCLI):
        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            # What the images decide is not asked twice; a model that has no such argument is left alone.
            for argument, of_data in _FROM_DATA.items():
                parser.link_arguments("data", f"model.init_args.{argument}", compute_fn=of_data, apply_on="instantiate")

        def before_fit(self) -> None:
            refuse_foreign_checkpoint(self.trainer, f"fit {type(self.model).__name__}")

    CLI(
        L.LightningModule,
        datamodules.ArrayDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        save_config_callback=SaveFullConfig,
        trainer_defaults={"callbacks": [TargetMisclassification()]},
        args=arguments if arguments != sys.argv[1:] else None,
    )


def _experiment_parser(command: str) -> ArgumentParser:
    # Importing the rooms lets options name their classes without a path.
    import attacks  # noqa: F401
    import datamodules  # noqa: F401
    from stages.experiment import Experiment
    from stages.launch import Launch

    parser = ArgumentParser(
        prog=f"cli.py {command}", description=_STAGES[command][1], default_config_files=[str(_DEFAULTS)], exit_on_error=True
    )
    parser.add_argument("--config", action="config", help="YAML file; may be repeated, later ones win")
    parser.add_class_arguments(Experiment, None)
    parser.add_class_arguments(Launch, "trainer")
    return parser


def _build_experiment(command: str, arguments: list[str]) -> tuple[Any, Any, str]:
    """Experiment, launch, and the resolved configuration as YAML."""
    from stages.experiment import Experiment

    parser = _experiment_parser(command)
    config, built = parse(parser, arguments)
    options = dict(vars(built))
    launch = options.pop("trainer")
    options.pop("config", None)
    return Experiment(**options), launch, parser.dump(config, skip_none=False)


def _experiment(command: str, until: str) -> Callable[[list[str]], None]:
    def start(arguments: list[str]) -> None:
        from stages.poison_and_defend import run

        experiment, launch, text = _build_experiment(command, arguments)
        run(experiment, launch, text, until=until)

    return start


def _benchmark(arguments: list[str]) -> None:
    from stages.benchmark import Entry, run_all

    own = argparse.ArgumentParser(
        prog="cli.py benchmark", description=_STAGES["benchmark"][1], add_help=False, allow_abbrev=False
    )
    own.add_argument("--attacks", default=TRANSFER_ATTACKS, help="presets, separated by commas")
    own.add_argument("--name", help="folder of the results under output_dir")
    own.add_argument("-h", "--help", action="store_true")
    given, rest = own.parse_known_args(arguments)
    if given.help or given.name is None:
        print(own.format_help() + "Everything else is an option of poison-and-defend, for all attacks alike.")
        if given.help:
            return
        raise InputError("name the comparison: its folder holds one experiment an attack (--name)")
    names = [name for name in given.attacks.split(",") if name]
    entries = []
    for name in names:
        # What all attacks are tried on overrides what a preset was made for.
        folder = f"{given.name}/{Path(name).stem}"
        experiment, launch, text = _build_experiment("benchmark", ["--attack", name, *rest, "--name", folder])
        entries.append(Entry(experiment, text))
    if not entries:
        raise InputError("no attack is named (--attacks)")
    run_all(entries, launch, Path(entries[0].experiment.output_dir) / given.name)


def _train_denoiser(arguments: list[str]) -> None:
    import lightning as L

    import datamodules  # noqa: F401
    from lightning_modules.denoiser import DenoiserModule
    from stages.launch import quiet_lightning
    from stages.train_denoiser import PublicDataModule, train_denoiser

    quiet_lightning()

    parser = ArgumentParser(prog="cli.py train-denoiser", description=_STAGES["train-denoiser"][1])
    parser.add_argument("--config", action="config", help="YAML file; may be repeated, later ones win")
    parser.add_class_arguments(DenoiserModule, "model")
    parser.add_class_arguments(PublicDataModule, "data")
    parser.add_class_arguments(L.Trainer, "trainer")
    parser.add_argument("--out", type=str, required=True, help="folder to write; must not exist")
    parser.add_argument("--half", type=bool, default=False, help="store float16 weights")
    _, built = parse(parser, arguments)
    target = train_denoiser(built.model, built.data, built.trainer, built.out, half=built.half)
    print(f"denoiser: {target}")


def _export(arguments: list[str]) -> None:
    from stages.exchange import export_poisons

    parser = ArgumentParser(prog="cli.py export-poisons", description=_STAGES["export-poisons"][1])
    parser.add_argument("--run", type=str, required=True, help="folder of an experiment whose poisons are crafted")
    parser.add_argument("--out", type=str, required=True, help="folder to write")
    parser.add_argument("--format", type=str, default="pickle", help="pickle (the benchmark's three files a setup) or npz")
    given = parser.parse_args(arguments)
    print(f"{export_poisons(Path(given.run), Path(given.out), given.format)} setups are in {given.out}")


def _certify(arguments: list[str]) -> None:
    import datamodules  # noqa: F401
    from stages.certify import run_certify
    from stages.certify_task import CertifyTask
    from stages.launch import Launch

    parser = ArgumentParser(
        prog="cli.py certify", description=_STAGES["certify"][1], default_config_files=[str(_CERTIFY_DEFAULTS)]
    )
    parser.add_argument("--config", action="config", help="YAML file; may be repeated, later ones win")
    parser.add_class_arguments(CertifyTask, None)
    parser.add_class_arguments(Launch, "trainer")
    config, built = parse(parser, arguments)
    options = dict(vars(built))
    launch = options.pop("trainer")
    options.pop("config", None)
    run_certify(CertifyTask(**options), launch, parser.dump(config, skip_none=False))


def _report(arguments: list[str]) -> None:
    from stages.certify_report import write_certificate_report
    from stages.report import write_report

    parser = ArgumentParser(prog="cli.py report", description=_STAGES["report"][1])
    parser.add_argument("--run", type=str, required=True, help="folder of a finished experiment or certificate")
    folder = Path(parser.parse_args(arguments).run)
    write = write_certificate_report if (folder / "certificate.json").exists() else write_report
    print(f"report: {write(folder)}")


_STAGES: dict[str, tuple[Callable[[list[str]], None], str]] = {
    "poison-and-defend": (
        _experiment("poison-and-defend", "report"),
        "craft poisons, train with and without each defence, compare and report",
    ),
    "benchmark": (_benchmark, "several attacks on the same data, victims and setups, and one table for all"),
    "certify": (_certify, "train many voters and say how much poisoning their vote provably withstands"),
    "craft": (_experiment("craft", "craft"), "craft the poisons of an experiment and stop"),
    "sanitize": (
        sanitize,
        "noise and denoise a folder of images, an .npz or any data set, resumable, with any number of processes",
    ),
    "quality": (quality, "compare a sanitized set with what it was: PSNR, SSIM, pictures, a classifier's accuracy"),
    "recommend-sigma": (recommend_sigma, "the largest noise that costs no more accuracy than allowed, from a sample"),
    "train-denoiser": (_train_denoiser, "train a small diffusion model on public images"),
    "export-poisons": (_export, "write an experiment's poisons as the public benchmark's pickles, or as .npz"),
    "report": (_report, "make the pictures and report.html of a finished experiment or certificate again"),
}
