"""Command-line parsing: which stage, with which configuration."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from errors import InputError

_ROOT = Path(__file__).resolve().parent.parent
_DEFAULTS = _ROOT / "configs" / "digits.yaml"
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
        _quiet_lightning()
        _STAGES[command][0](arguments[1:])
    else:
        known = ", ".join([*_STAGES, *_LIGHTNING])
        raise InputError(f"there is no command {command!r}: choose from {known}")


def _quiet_lightning() -> None:
    """A stage starts several Trainers, each of which would introduce itself."""
    # Importing sets the level, so that it must come first.
    import lightning  # noqa: F401

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


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

    class CLI(LightningCLI):
        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            # What the images decide is not asked twice; a model that has no such argument is left alone.
            for argument, of_data in _FROM_DATA.items():
                parser.link_arguments("data", f"model.init_args.{argument}", compute_fn=of_data, apply_on="instantiate")

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


def _parse(parser: ArgumentParser, arguments: list[str]) -> tuple[Namespace, Namespace]:
    """Parsed configuration, and the same with classes instantiated."""
    config = parser.parse_args(_presets(arguments))
    return config, parser.instantiate_classes(config)


def _presets(arguments: list[str]) -> list[str]:
    """Turn ``--attack NAME`` into the preset ``configs/attack/NAME.yaml``, which comes before all overrides."""
    folder = _ROOT / "configs" / "attack"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    rest, presets = [], []
    words = iter(arguments)
    for word in words:
        name = None
        if word == "--attack":
            name = next(words, "")
        elif word.startswith("--attack="):
            name = word.partition("=")[2]
        # A class name or a dictionary is jsonargparse's business.
        if name is None or name[:1].isupper() or name.startswith("{") or "." in name:
            rest += [word] if name is None else ["--attack", name]
        elif name in known:
            presets += ["--config", str(folder / f"{name}.yaml")]
        else:
            raise InputError(f"{name!r} is not an attack: choose from {', '.join(known)} (--attack)")
    return presets + rest


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


def _experiment(command: str, until: str) -> Callable[[list[str]], None]:
    def start(arguments: list[str]) -> None:
        from stages.experiment import Experiment
        from stages.poison_and_defend import run

        parser = _experiment_parser(command)
        config, built = _parse(parser, arguments)
        options = dict(vars(built))
        launch = options.pop("trainer")
        options.pop("config", None)
        text = parser.dump(config, skip_none=False)
        run(Experiment(**options), launch, text, until=until)

    return start


def _train_denoiser(arguments: list[str]) -> None:
    import lightning as L

    import datamodules  # noqa: F401
    from lightning_modules.denoiser import DenoiserModule
    from stages.train_denoiser import PublicDataModule, train_denoiser

    parser = ArgumentParser(prog="cli.py train-denoiser", description=_STAGES["train-denoiser"][1])
    parser.add_argument("--config", action="config", help="YAML file; may be repeated, later ones win")
    parser.add_class_arguments(DenoiserModule, "model")
    parser.add_class_arguments(PublicDataModule, "data")
    parser.add_class_arguments(L.Trainer, "trainer")
    parser.add_argument("--out", type=str, required=True, help="folder to write; must not exist")
    parser.add_argument("--half", type=bool, default=False, help="store float16 weights")
    _, built = _parse(parser, arguments)
    target = train_denoiser(built.model, built.data, built.trainer, built.out, half=built.half)
    print(f"denoiser: {target}")


def _sanitize(arguments: list[str]) -> None:
    import datamodules
    from stages.launch import Launch
    from stages.sanitize_alone import sanitize_alone

    parser = ArgumentParser(prog="cli.py sanitize", description=_STAGES["sanitize"][1])
    parser.add_argument("--config", action="config", help="YAML file; may be repeated, later ones win")
    parser.add_class_arguments(datamodules.DiffusionSanitizeDataModule, "data")
    parser.add_class_arguments(Launch, "trainer")
    parser.add_argument("--out", type=str, required=True, help=".npz file to write: images and labels")
    _, built = _parse(parser, arguments)
    sanitize_alone(built.data, built.trainer, Path(built.out))


def _report(arguments: list[str]) -> None:
    from stages.report import write_report

    parser = ArgumentParser(prog="cli.py report", description=_STAGES["report"][1])
    parser.add_argument("--run", type=str, required=True, help="folder of a finished experiment")
    print(f"report: {write_report(Path(parser.parse_args(arguments).run))}")


_STAGES: dict[str, tuple[Callable[[list[str]], None], str]] = {
    "poison-and-defend": (
        _experiment("poison-and-defend", "report"),
        "craft poisons, train with and without each defence, compare and report",
    ),
    "craft": (_experiment("craft", "craft"), "craft the poisons of an experiment and stop"),
    "sanitize": (_sanitize, "noise and denoise the training set of any data set into a store and an .npz"),
    "train-denoiser": (_train_denoiser, "train a small diffusion model on public images"),
    "report": (_report, "make the pictures and report.html of a finished experiment again"),
}
