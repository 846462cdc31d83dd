"""Lightning's `fit`, `validate`, `test` and `predict`, on this project's models and data."""

import pickle
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.model_helpers import is_overridden

import poison_and_defend.lightning_modules  # noqa: F401
from poison_and_defend import datamodules
from poison_and_defend.callbacks import TargetMisclassification
from poison_and_defend.callbacks.predictions import PredictionFile
from poison_and_defend.callbacks.wandb_logging import SaveFullConfig
from poison_and_defend.cli.options.own_data import typed_data
from poison_and_defend.cli.options.parsing import OneSentence, check_environment, readable_configs
from poison_and_defend.cli.options.presets import expand
from poison_and_defend.cli.table import COMMANDS, LIGHTNING, PROGRAM, usage
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import make_folder
from poison_and_defend.core.processes.interrupts import saying
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.training.checkpoint_check import check_checkpoint, unreadable
from poison_and_defend.training.requeue import refuse_foreign_checkpoint

_FROM_DATA: dict[str, Callable[[Any], Any]] = {
    "num_classes": lambda data: data.num_classes,
    "in_channels": lambda data: data.image_shape[0],
    "mean": lambda data: list(data.mean),
    "std": lambda data: list(data.std),
}


_PREDICT = f"{PROGRAM} predict"


class _Parser(OneSentence, LightningArgumentParser):
    """Lightning's, with our sentences."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def parse_object(self, cfg_obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Parse values by name; of a checkpoint, what it says of its model."""
        # Lightning hands over hyperparameters as it found them in the file.
        for part in cfg_obj.values() if isinstance(cfg_obj, dict) else ():
            model = part.get("model") if isinstance(part, dict) else None
            if isinstance(model, dict) and isinstance(model.get("dict_kwargs"), dict):
                _forget_names(model["dict_kwargs"])
        return super().parse_object(cfg_obj, *args, **kwargs)


def _forget_names(hyperparameters: dict[str, Any]) -> None:
    """Rename what older checkpoints say, and leave out networks of classes that the user alone may name, by an option."""
    if "backbone" in hyperparameters:
        hyperparameters["network"] = hyperparameters.pop("backbone")
    if "network" in hyperparameters:
        network = Network.of(hyperparameters.pop("network"))
        if network.harmless:
            hyperparameters["network"] = network.untrained().options()


class _CLI(LightningCLI):
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # What the images decide is not asked twice; a model that has no such argument is left alone.
        for argument, of_data in _FROM_DATA.items():
            parser.link_arguments("data", f"model.init_args.{argument}", compute_fn=of_data, apply_on="instantiate")
        if parser.prog == _PREDICT:
            parser.add_argument("--out", type=str, default=None, help="CSV file to write: row, label, predicted class")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        with readable_configs():
            super().parse_arguments(parser, args)
        command = self.config.subcommand
        config = self.config[command]
        check_environment(config)
        if command == "predict":
            _check_output(config.out)
        # Last, since a large checkpoint takes a while to read.
        check_checkpoint(config, command)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        with trainer_refusals():
            return super().instantiate_trainer(**kwargs)

    def before_fit(self) -> None:
        refuse_foreign_checkpoint(self.trainer, f"fit {type(self.model).__name__}")

    def before_predict(self) -> None:
        if not is_overridden("predict_step", self.model):
            raise InputError(f"{type(self.model).__name__} has no classes to predict (--model ClassifierModule)")
        make_folder(Path(self.config.predict.out).absolute().parent, "--out")
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        callbacks.append(PredictionFile(Path(self.config.predict.out)))

    def predict(self, **options: Any) -> None:
        # What is written is not gathered in memory as well.
        self.trainer.predict(**{**options, "return_predictions": False})


def start(command: str, arguments: list[str]) -> None:
    """Run one of Lightning's commands.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        arguments: Its options.

    Raises:
        InputError: If an option, a checkpoint or this machine does not allow it.
        KeyboardInterrupt: If the user stopped it; says how to go on.
    """
    made: list[L.Trainer] = []

    class CLI(_CLI):
        def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
            made.append(super().instantiate_trainer(**kwargs))
            return made[-1]

    given = [command, *typed_data(expand(arguments))]
    with saying(lambda: _after_interrupt(command, made)), _run_refusals():
        _make(CLI, given if given != sys.argv[1:] else None)


def parser_of(command: str) -> LightningArgumentParser:
    """The parser of one of the commands, with all its options."""

    class Parsers(_CLI):
        def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
            raise _ParserMade(self._subcommand_parsers[command])

    try:
        _make(Parsers, [command])
    except _ParserMade as made:
        made.parser.usage = usage(command)
        return made.parser
    raise AssertionError("Lightning parses nothing any more")


class _ParserMade(Exception):
    def __init__(self, parser: LightningArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def _make(cli: type[_CLI], arguments: list[str] | None) -> None:
    cli(
        L.LightningModule,
        datamodules.ArrayDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        save_config_callback=SaveFullConfig,
        trainer_defaults={"callbacks": [TargetMisclassification()]},
        parser_class=_Parser,
        parser_kwargs={name: {"description": COMMANDS[name].about, "prog": f"{PROGRAM} {name}"} for name in LIGHTNING},
        args=arguments,
    )


def _check_output(out: str | None) -> None:
    if out is None:
        raise InputError("predict writes a CSV file: name it, for example --out predictions.csv (--out)")
    if Path(out).exists():
        raise InputError(f"{out} exists: choose another file or remove it (--out)")


def _after_interrupt(command: str, made: list[L.Trainer]) -> str:
    callback: Any = made[-1].checkpoint_callback if made and command == "fit" else None
    kept = [path for name in ("last_model_path", "best_model_path") if (path := getattr(callback, name, ""))]
    if not kept:
        return f"stopped; {command} has kept nothing, and the same command starts again"
    return f"stopped; {command} does not continue by itself: add --ckpt_path {kept[0]} to the same command"


@contextmanager
def trainer_refusals() -> Iterator[None]:
    """A Trainer that cannot be made as asked, in one sentence."""
    try:
        yield
    except InputError:
        raise
    except (MisconfigurationException, ImportError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"the trainer cannot be made: {_first_sentence(error)} (--trainer)") from error


@contextmanager
def _run_refusals() -> Iterator[None]:
    """What a user can mend of what Lightning and torch raise later."""
    try:
        yield
    except MisconfigurationException as error:
        raise InputError(f"the trainer refuses: {_first_sentence(error)} (--trainer)") from error
    except pickle.UnpicklingError as error:
        raise InputError(f"{unreadable('to continue from', error)} (--ckpt_path)") from error
    except KeyError as error:
        if "contains only the model" not in str(error):
            raise
        raise InputError("the checkpoint holds a model alone, from which no fit can continue (--ckpt_path)") from error
    except RuntimeError as error:
        if "loading state_dict" not in str(error):
            raise
        raise InputError("the checkpoint is of another architecture than the model (--ckpt_path, --model)") from error


def _first_sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return re.split(r"(?<=[a-z`'\"])\. ", text)[0].removesuffix(".")[:300]
